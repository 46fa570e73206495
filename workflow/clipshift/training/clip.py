"""Train one model on one split with open_clip's training program.

The kept samples are copied, shuffled, into the work folder; the program runs there, saves a
checkpoint after each part, and continues at the last one when it is started again. `model.pt`
(weights), `record.json` (how) and `loss.csv` are the results. A controlled model is trained in the
same way, on the captions of a corpus.
"""

import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import (
    Files,
    read_json,
    sha256_file,
    write_csv,
    write_json,
)
from clipshift.core.job_logs import note
from clipshift.core.step import step
from clipshift.core.weights import read_saved
from clipshift.datasets.images import WHITE, colour
from clipshift.datasets.tar_paths import data_folder, every_tar, tars_of
from clipshift.splits.guard import left_out
from clipshift.study.config.causes import AnyControlled
from clipshift.study.config.folders import EXTERNAL
from clipshift.study.config.trainings import AnyTraining, Training
from clipshift.training import checkpoints, failures, launch
from clipshift.training.batches import seen_rows, trained
from clipshift.training.init_tower import TEXT_WEIGHTS
from clipshift.training.local_copy import copied_shards, copy_split, unseen
from clipshift.training.objectives.clip import Clip
from clipshift.training.shards import Shards, write_shards
from clipshift.training.tar_filter import pool_shards, prepare, reference_shards

LOG = logging.getLogger(__name__)

# The list of a training's tars, in its work folder.
SHARDS = "shards.json"
# Raised when a work folder of before cannot be continued.
_FORMAT = 2


def plan(training: Training) -> dict[str, int]:
    """Steps and samples of a training, the same for every split.

    Samples are rounded up to whole batches in each part between two checkpoints.
    """
    steps = -(-training.samples // (training.batch * training.checkpoints))
    return {
        "parts": training.checkpoints,
        "steps_per_part": steps,
        "samples_per_part": steps * training.batch,
        "samples_seen": steps * training.batch * training.checkpoints,
    }


def claim(work: Path, identity: dict[str, Any]) -> bool:
    """Make `work` the folder of this very training; whether it was already.

    A folder left by a training of another split, configuration or seed is emptied: continuing from
    its checkpoint would give a model of neither.
    """
    mark = work / "identity.json"
    if mark.exists() and read_json(mark) == identity:
        return True
    shutil.rmtree(work, ignore_errors=True)
    write_json(mark, identity)
    return False


def identity_of(split: Path, tars: list[Path], training: Training, seed: int) -> dict[str, Any]:
    """What a training depends on; tars by size and time, since hashing them can take hours."""
    stats = [(tar.name, tar.stat().st_size, tar.stat().st_mtime_ns) for tar in tars]
    return {
        "format": _FORMAT,
        "split": sha256_file(split),
        "tars": [list(stat) for stat in stats],
        "training": training.model_dump(mode="json"),
        "seed": seed,
    }


@dataclass(frozen=True)
class Filtered:
    """What `read: filter` needs beside the tars: the first word of them is the pool.

    Attributes:
        tables: sample tables of the pool's shards.
        classnames: of a reference set without captions, and the template to give it some.
    """

    tables: Files
    classnames: Path | None = None
    template: str = ""


def filtered(
    split: Path, words: list[str], data: Path, how: Filtered, work: Path,
    without: Collection[str] = (), background: str = "#ffffff",
) -> tuple[Path, int]:  # fmt: skip
    """List the user's tars with what is kept of each; the list, and the number of samples."""
    keep = work / "keep"
    pool, *reference = words
    done = keep / "done.json"
    if not done.exists():
        count = prepare(split, how.tables, tars_of([pool], data), keep, without)
        write_json(done, {"samples": count})
    shards = pool_shards(every_tar(pool, data), keep)
    tars = [(tar, word.startswith(EXTERNAL)) for word in reference for tar in tars_of([word], data)]
    by_label = [outside and how.classnames is not None for _, outside in tars]
    kept = sum(shard.rows for shard in shards)
    shards += reference_shards([tar for tar, _ in tars], keep, kept, by_label)
    write_shards(work / SHARDS, shards, background, how.classnames, how.template)
    return work / SHARDS, int(read_json(done)["samples"])


def arguments(
    run_name: str, training: Training, seed: int, data: Path, shards: int, work: Path
) -> list[str]:
    """Arguments of open_clip's training program; `data` lists its tars, by number `shards`."""
    steps = plan(training)
    named = {
        "model": _model_name(run_name),
        "train-data": data,
        "train-num-samples": steps["samples_per_part"],
        "dataset-type": "webdataset",
        "epochs": steps["parts"],
        "batch-size": launch.share(training),
        "lr": training.lr,
        "warmup": training.warmup,
        "wd": training.weight_decay,
        "precision": training.precision,
        "seed": seed,
        "workers": launch.workers(training, shards),
        "device": "cuda" if training.gpus else "cpu",
        "logs": work / "logs",
        "name": run_name,
        "resume": "latest",
        "log-every-n-steps": 10,
    }
    listed = [text for key, value in named.items() for text in (f"--{key}", str(value))]
    listed += ["--save-most-recent"]
    if training.accumulation > 1:
        listed += ["--accum-freq", str(training.accumulation)]
    if training.grad_checkpointing:
        listed += ["--grad-checkpointing"]
    if training.world > 1:
        # Each process its own rows against all columns: together the gradient of one process.
        listed += ["--local-loss", "--gather-with-grad"]
    if training.augmentation:
        pairs = (f"{key}={_literal(value)}" for key, value in training.augmentation.items())
        listed += ["--aug-cfg", *pairs]
    return listed + training.arguments


def _model_name(run_name: str) -> str:
    return f"clipshift-{run_name.split('-')[1]}"


def _literal(value: object) -> str:
    """A value as open_clip's `key=value` parser reads it: a Python literal without spaces."""
    return repr(tuple(value) if isinstance(value, list) else value).replace(" ", "")


@step(version=1)
def train(
    run: str, split: Path, tars: list[str], training: AnyTraining, seed: int, work: Path,
    model: Path, how: Filtered | None = None, guard: Path | None = None,
    spec: AnyControlled | None = None, start: Path | None = None, background: str = "#ffffff",
    epochs: Path | None = None,
) -> None:  # fmt: skip
    """Train, or continue a training, and write its results.

    Args:
        split: what to read; of a controlled model, the part that its corpus can use.
        tars: the tars to read, as words (see `clipshift.datasets.tar_paths`).
        work: a folder for copy, checkpoints and logs, which is removed at the end.
        model: the weights to write; record and loss go beside them.
        how: for `read: filter`.
        guard: the list of test images in the split; they are left out.
        spec: of a controlled model.
        start: weights of the run whose text tower it starts from.
        background: behind transparent pixels.
        epochs: folder for the weights after every epoch.

    Raises:
        ClipshiftError: the split is smaller than a batch, a tar is damaged, the loss is no
            number, or the program failed.
    """
    if isinstance(spec, Clip) and spec.text and spec.text.frozen:
        lock = [*training.arguments, "--lock-text", "--lock-text-freeze-layer-norm"]
        training = training.model_copy(update={"arguments": lock})
    launch.check_gpus(training)
    paths = tars_of(tars, data_folder())
    identity = identity_of(split, paths, training, seed)
    without = left_out(guard)
    identity |= {"text": sha256_file(start)} if start else {}
    identity |= {"left_out": sorted(without)} if without else {}
    identity |= {"background": background} if colour(background) != WHITE else {}
    identity |= {"epochs": True} if epochs else {}
    with launch.alone(work, model, identity) as finished:
        if finished:
            return
        if claim(work, identity):
            LOG.info(f"continuing in {work}")
        failures.forget(work)
        record = _train(run, split, tars, training, seed, work, model, how, without, start,
                        background, epochs)  # fmt: skip
        if spec:
            record["controlled"] = spec.model_dump(mode="json")
        write_json(model.with_name("record.json"), record)
        shutil.rmtree(work)


def _train(
    run: str, split: Path, tars: list[str], training: AnyTraining, seed: int, work: Path,
    model: Path, how: Filtered | None, without: dict[str, str], start: Path | None, background: str,
    epochs: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Train to the end, and write weights and losses; the record."""
    started = time.time()
    paths = tars_of(tars, data_folder())
    if training.read == "filter" and how:
        data, samples = filtered(split, tars, data_folder(), how, work, without, background)
        parts = len(paths)
    else:
        parts = launch.copy_shards(training)
        samples = copy_split(
            split, paths, training.cache_px, seed, work / "data", parts, without,
            colour(background),
        )  # fmt: skip
        data = work / SHARDS
        write_shards(data, copied_shards(work / "data"))
    epoch_parts = checkpoints.parts_of_epoch(training) if epochs else 0
    training = training.on(samples)
    if samples < training.batch:
        raise ClipshiftError(
            f"the split {split.stem} keeps {samples} samples, fewer than one batch of "
            f"{training.batch}; keep more or lower `batch`"
        )
    architecture = work / f"{_model_name(run)}.json"
    write_json(architecture, training.model)
    options = arguments(run, training, seed, data, parts, work)
    command = [*launch.program(training), str(architecture), *options]
    settings = {launch.EPOCH_PARTS: str(epoch_parts)}
    if start:
        settings[TEXT_WEIGHTS] = str(start)
    state, seen, losses = _run_program(run, command, training, work, settings)
    write_csv(model.with_name("loss.csv"), losses)
    checkpoints.save_weights(model, checkpoints.plain(state))
    split_name, model_name, _ = run.split("-")
    shards = Shards(data)
    keys = shards.account(seen_rows(work / "logs" / run / "samples", shards.rows))
    if keys["unseen"]:
        note(f"the training {run} never saw {keys['unseen']} of the {keys['kept']} samples of its "
             f"split, e.g. {keys['first_unseen'][:1]}: it sees {seen} in all")  # fmt: skip
    record = {
        "run": run,
        "split": split_name,
        "split_sha256": sha256_file(split),
        "split_samples": samples,
        "keys": keys,
        "left_out": without,
        "model": model_name,
        "model_sha256": sha256_file(model),
        "parameters": sum(v.numel() for v in state.values()),
        "seed": seed,
        "training": training.model_dump(mode="json"),
        "plan": plan(training),
        "samples_seen": seen,
        "final_loss": float(losses[-1]["mean_loss_of_part"]) if losses else None,
        "command": command,
        "seconds_of_last_start": round(time.time() - started, 1),
        "versions": {
            p: version(p) for p in ("clipshift", "torch", "open_clip_torch", "webdataset")
        },
    }
    if epochs:
        samples_of_epoch = epoch_parts * plan(training)["samples_per_part"]
        record["epochs"] = checkpoints.take_epochs(work, epochs, samples_of_epoch)
    return record | unseen(work)


def _run_program(
    run: str, command: list[str], training: Training, work: Path, settings: dict[str, str]
) -> tuple[dict[str, torch.Tensor], int, list[dict[str, Any]]]:
    """Run open_clip's program to its end: weights, samples seen, rows of `loss.csv`.

    Args:
        settings: what it reads in its environment.
    """
    logs = work / "logs" / run
    if whole := checkpoints.settle(logs / "checkpoints"):
        LOG.info(f"{whole} of {training.checkpoints} parts are done")
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "NO_ALBUMENTATIONS_UPDATE": "1"}
    code = launch.start(command, quiet | settings)
    failures.check(work)
    # The program prints some of its errors and exits with 0: only its checkpoint counts.
    log = logs / "out.log"
    state = _finished(logs / "checkpoints" / checkpoints.LATEST, training.checkpoints)
    if code or state is None:
        raise ClipshiftError(
            f"the training {run} failed (exit {code}); its log is {log}. Run again "
            f"to continue from the last checkpoint, or delete {work} to start anew"
        )
    planned = plan(training)
    seen, watched = trained(logs / "samples", training.checkpoints)
    if seen != planned["samples_seen"]:
        raise ClipshiftError(
            f"the training {run} saw {seen} samples, planned were {planned['samples_seen']}; "
            f"delete {work} to start anew"
        )
    return state, seen, loss_rows(watched, planned["samples_per_part"])


def loss_rows(watched: list[list[dict[str, Any]]], samples: int) -> list[dict[str, Any]]:
    """Rows of `loss.csv`: of each part the steps that were logged, numbers as text.

    Args:
        samples: of a part.
    """
    return [
        {
            "part": part,
            "samples_seen": part * samples + row["samples"],
            "mean_loss_of_part": str(row["loss"]),
            "gradient_norm": "" if row["gradient_norm"] is None else f"{row['gradient_norm']:.6g}",
            "learning_rate": f"{row['learning_rate']:.6g}",
        }
        for part, rows in enumerate(watched)
        for row in rows
    ]


def _finished(checkpoint: Path, parts: int) -> dict[str, torch.Tensor] | None:
    """The weights of a checkpoint that holds all parts."""
    if not checkpoint.exists() or checkpoints.parts_done(checkpoint) != parts:
        return None
    state: dict[str, torch.Tensor] = read_saved(checkpoint)["state_dict"]
    return state
