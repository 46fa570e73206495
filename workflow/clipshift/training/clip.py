"""Train one model on one split with open_clip's training program.

The kept samples are copied, shuffled, into the work folder; the program runs there, saves a
checkpoint after each part, and continues at the last one when it is started again. `model.pt`
(weights), `record.json` (how) and `loss.csv` are the results. A controlled model is trained in the
same way, on the captions of a corpus.
"""

import io
import re
import shutil
import sys
import time
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pyarrow.parquet import read_schema

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import (
    Files,
    atomic,
    read_json,
    read_parquet,
    sha256_file,
    write_csv,
    write_json,
)
from clipshift.core.step import step
from clipshift.datasets.images import decode
from clipshift.datasets.select import seeded_order
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tar_paths import data_folder, located, tars_of
from clipshift.datasets.tars import Sample, read_tar
from clipshift.splits.guard import left_out
from clipshift.study.config.causes import Controlled
from clipshift.study.config.folders import EXTERNAL
from clipshift.study.config.study import AnyTraining, EpochTraining, Training
from clipshift.training import checkpoints, launch
from clipshift.training.batches import trained
from clipshift.training.init_tower import TEXT_WEIGHTS
from clipshift.training.tar_filter import prepare, shard_url, write_settings

# Images held in memory while copying, bytes.
COPY_BYTES = 1 << 30
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


def copy_split(
    split: Path, tars: list[Path], cache_px: int | None, seed: int, out: Path,
    parts: int = launch.COPY_SHARDS, without: Collection[str] = (),
) -> int:  # fmt: skip
    """Copy the kept samples of a split into shuffled training shards and return their number.

    `done.json` is written last; a copy that has it is used again. Where the split's table has
    captions of its own (`caption`), they replace those of the tars.

    Raises:
        ClipshiftError: a kept sample is in none of the tars, or in two.
    """
    done = out / "done.json"
    if done.exists():
        return int(read_json(done)["samples"])
    shutil.rmtree(out, ignore_errors=True)
    captions = captions_of(split, without)
    order = sorted(captions, key=lambda key: (seeded_order(seed, key), key))
    # As many shards in one pass over the tars as memory allows.
    size = max(1, sum(tar.stat().st_size for tar in tars) // parts)
    group = max(1, min(parts, COPY_BYTES // size))
    for first in range(0, parts, group):
        shards = range(first, min(first + group, parts))
        wanted = {key for shard in shards for key in order[shard::parts]}
        found = _find(wanted, tars, cache_px, captions)
        if missing := wanted - found.keys():
            raise ClipshiftError(
                f"{split} keeps {len(missing)} samples that are in none of its {len(tars)} tars, "
                f"e.g. {min(missing)!r}; delete the split and run again"
            )
        for shard in shards:
            mine = (found[key] for key in order[shard::parts])
            write_tar(out / f"{shard:05d}.tar", mine)
    write_json(done, {"samples": len(order)})
    return len(order)


def captions_of(split: Path, without: Collection[str] = ()) -> dict[str, str | None]:
    """The keys that a split keeps, each with its caption where the table has such a column."""
    named = ["caption"] * ("caption" in read_schema(split).names)
    table = read_parquet(split, ["key", "kept", *named])
    table = table.filter(table["kept"])
    texts = table["caption"].to_pylist() if named else [None] * len(table)
    pairs = zip(table["key"].to_pylist(), texts, strict=True)
    return {key: text for key, text in pairs if key not in without}


def _find(
    keys: Set[str], tars: list[Path], cache_px: int | None, captions: Mapping[str, str | None]
) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for tar in tars:
        for sample in read_tar(tar):
            if sample.key in keys:
                if sample.key in found:
                    raise ClipshiftError(f"{tar}: the key {sample.key!r} is in another tar, too")
                found[sample.key] = _training_sample(sample, cache_px, captions[sample.key])
    return found


def _training_sample(sample: Sample, cache_px: int | None, caption: str | None) -> Sample:
    if caption is not None:
        sample = Sample(sample.key, sample.parts | {"txt": caption.encode()})
    if cache_px is None:
        return sample
    image = decode(sample.image)
    small = io.BytesIO()
    image.resize((cache_px, cache_px), Image.Resampling.BICUBIC).save(small, "PNG")
    return Sample(sample.key, {"png": small.getvalue(), "txt": sample.parts.get("txt", b"")})


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
    without: Collection[str] = (),
) -> tuple[str, int]:  # fmt: skip
    """Open the user's tars through a filter; the shards to train on, and the number of samples."""
    keep = work / "keep"
    pool, *reference = words
    done = keep / "done.json"
    if not done.exists():
        count = prepare(split, how.tables, tars_of([pool], data), keep, without)
        write_json(done, {"samples": count})
    write_settings(keep / "pool.json", keep / "pool")
    urls = [shard_url(keep / "pool.json", str(located(pool, data).absolute()))]
    for word in reference:
        outside = word.startswith(EXTERNAL)
        settings = keep / "reference.json"
        names = how.classnames if outside else None
        write_settings(settings, keep / "reference.npy", names, how.template)
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
    spec: Controlled | None = None, start: Path | None = None,
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
    if claim(work, identity | more):
        print(f"continuing in {work}", file=sys.stderr)
    if training.read == "filter" and how:
        data, samples = filtered(split, tars, data_folder(), how, work, without)
        parts = len(paths)
    else:
        parts = launch.copy_shards(training)
        samples = copy_split(split, paths, training.cache_px, seed, work / "data", parts, without)
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
        print(f"{whole} of {training.checkpoints} parts are done", file=sys.stderr)
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
