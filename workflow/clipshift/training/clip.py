"""Train one model on one split with open_clip's training program.

The kept samples are copied, shuffled, into the work folder; the program runs there, saves a
checkpoint after each part, and continues at the last one when it is started again. `model.pt`
(weights), `record.json` (how) and `loss.csv` are the results. A controlled model is trained in the
same way, on the captions of a corpus.
"""

import logging
import re
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
    atomic,
    read_json,
    sha256_file,
    write_csv,
    write_json,
)
from clipshift.core.step import step
from clipshift.datasets.images import WHITE, colour
from clipshift.datasets.tar_paths import data_folder, located, tars_of
from clipshift.splits.guard import left_out
from clipshift.study.config.causes import Controlled
from clipshift.study.config.folders import EXTERNAL
from clipshift.study.config.study import AnyTraining, EpochTraining, Training
from clipshift.training import checkpoints, launch
from clipshift.training.batches import trained
from clipshift.training.init_tower import TEXT_WEIGHTS
from clipshift.training.local_copy import copy_split, unseen
from clipshift.training.tar_filter import (
    prepare,
    shard_url,
    write_settings,
)

LOG = logging.getLogger(__name__)

_LOSS = re.compile(r"Train Epoch: (\d+) \[ *(\d+)/.*?Contrastive_loss: [\d.eE+-]+ \(([\d.eE+-]+)\)")


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
) -> tuple[str, int]:  # fmt: skip
    """Open the user's tars through a filter; the shards to train on, and the number of samples."""
    keep = work / "keep"
    pool, *reference = words
    done = keep / "done.json"
    if not done.exists():
        count = prepare(split, how.tables, tars_of([pool], data), keep, without)
        write_json(done, {"samples": count})
    write_settings(keep / "pool.json", keep / "pool", background=background)
    urls = [shard_url(keep / "pool.json", str(located(pool, data).absolute()))]
    for word in reference:
        outside = word.startswith(EXTERNAL)
        settings = keep / "reference.json"
        names = how.classnames if outside else None
        write_settings(settings, keep / "reference.npy", names, how.template, background)
        urls += [shard_url(settings, str(tar.absolute())) for tar in tars_of([word], data)]
    return "::".join(urls), int(read_json(done)["samples"])


def arguments(
    run_name: str, training: Training, seed: int, data: str, shards: int, work: Path
) -> list[str]:
    """Arguments of open_clip's training program; `data` are its shards, by number `shards`."""
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
    spec: Controlled | None = None, start: Path | None = None, background: str = "#ffffff",
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

    Raises:
        ClipshiftError: the split is smaller than a batch, or the program failed.
    """
    started = time.time()
    if spec and spec.text and spec.text.frozen:
        lock = [*training.arguments, "--lock-text", "--lock-text-freeze-layer-norm"]
        training = training.model_copy(update={"arguments": lock})
    launch.check_gpus(training)
    paths = tars_of(tars, data_folder())
    identity = identity_of(split, paths, training, seed)
    without = left_out(guard)
    more: dict[str, Any] = {"text": sha256_file(start)} if start else {}
    more |= {"left_out": sorted(without)} if without else {}
    more |= {"background": background} if colour(background) != WHITE else {}
    if claim(work, identity | more):
        LOG.info(f"continuing in {work}")
    if training.read == "filter" and how:
        data, samples = filtered(split, tars, data_folder(), how, work, without, background)
        parts = len(paths)
    else:
        parts = launch.copy_shards(training)
        samples = copy_split(
            split, paths, training.cache_px, seed, work / "data", parts, without,
            colour(background),
        )  # fmt: skip
        data = f"{work / 'data'}/{{00000..{parts - 1:05d}}}.tar"
    if isinstance(training, EpochTraining):
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
    state, seen, losses = _run_program(run, command, training, work, start)
    # As text: the loss as the program printed it.
    columns = ("part", "samples_seen", "mean_loss_of_part")
    rows = [dict(zip(columns, (*row, str(loss)), strict=True)) for *row, loss in losses]
    write_csv(model.with_name("loss.csv"), rows)
    # To a stream: given a path, torch puts the file's name into its bytes.
    with atomic(model) as stream:
        torch.save({k.removeprefix("module."): v for k, v in state.items()}, stream)
    split_name, model_name, _ = run.split("-")
    record = {
        "run": run,
        "split": split_name,
        "split_sha256": sha256_file(split),
        "split_samples": samples,
        "left_out": without,
        "model": model_name,
        "model_sha256": sha256_file(model),
        "parameters": sum(v.numel() for v in state.values()),
        "seed": seed,
        "training": training.model_dump(mode="json"),
        "plan": plan(training),
        "samples_seen": seen,
        "final_loss": losses[-1][2] if losses else None,
        "command": command,
        "seconds_of_last_start": round(time.time() - started, 1),
        "versions": {
            p: version(p) for p in ("clipshift", "torch", "open_clip_torch", "webdataset")
        },
    }
    record |= unseen(work)
    if spec:
        record["controlled"] = spec.model_dump(mode="json")
    write_json(model.with_name("record.json"), record)
    shutil.rmtree(work)


def _run_program(
    run: str, command: list[str], training: Training, work: Path, start: Path | None
) -> tuple[dict[str, torch.Tensor], int, list[tuple[int, int, float]]]:
    """Run open_clip's program to its end: weights, samples seen, losses (see `read_losses`)."""
    logs = work / "logs" / run
    if whole := checkpoints.settle(logs / "checkpoints"):
        LOG.info(f"{whole} of {training.checkpoints} parts are done")
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "NO_ALBUMENTATIONS_UPDATE": "1"}
    if start:
        quiet[TEXT_WEIGHTS] = str(start)
    code = launch.start(command, quiet)
    # The program prints some of its errors and exits with 0: only its checkpoint counts.
    log = logs / "out.log"
    state = _finished(logs / "checkpoints" / checkpoints.LATEST, training.checkpoints)
    if code or state is None:
        raise ClipshiftError(
            f"the training {run} failed (exit {code}); its log is {log}. Run again "
            f"to continue from the last checkpoint, or delete {work} to start anew"
        )
    planned, seen = plan(training)["samples_seen"], trained(logs / "samples", training.checkpoints)
    if seen != planned:
        raise ClipshiftError(
            f"the training {run} saw {seen} samples, planned were {planned}; "
            f"delete {work} to start anew"
        )
    return state, seen, read_losses(log, training)


def _finished(checkpoint: Path, parts: int) -> dict[str, torch.Tensor] | None:
    if not checkpoint.exists():
        return None
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return saved["state_dict"] if saved["epoch"] == parts else None


def read_losses(log: Path, training: Training) -> list[tuple[int, int, float]]:
    """(part, samples seen, running mean loss) from the program's log, the last value of each.

    A part that was started twice (killed and continued) is logged twice; the later one counts.
    """
    steps = plan(training)
    found: dict[int, tuple[int, int, float]] = {}
    for part, seen, loss in _LOSS.findall(log.read_text()):
        samples = int(part) * steps["samples_per_part"] + int(seen)
        found[samples] = (int(part), samples, float(loss))
    return [found[samples] for samples in sorted(found)]
