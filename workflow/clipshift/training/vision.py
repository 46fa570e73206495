"""Train a vision tower with a head (objectives of our own loop), as CLIP's is trained on captions.

The same images, samples seen, checkpoints and outputs as `clipshift.training.clip`: a killed
training continues at its last complete checkpoint and ends with the same bytes. Precision, device
and processes are those of the model (`torch.distributed` with one process a GPU).
"""

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from clipshift.core.device import pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, sha256_file, write_csv, write_json
from clipshift.core.processes import die_with_parent
from clipshift.core.step import step
from clipshift.datasets.captions.schema import classes_of
from clipshift.datasets.images import WHITE, colour
from clipshift.datasets.tar_paths import data_folder, tars_of
from clipshift.study.config.causes import AnyControlled
from clipshift.study.config.objective_base import Vision
from clipshift.study.config.trainings import AnyTraining
from clipshift.training import checkpoints, failures
from clipshift.training.clip import claim, identity_of, loss_rows, plan
from clipshift.training.images import Batches, index_tars, undecodable
from clipshift.training.init_tower import start_vision
from clipshift.training.launch import alone, copy_shards, program, start_step
from clipshift.training.local_copy import copy_split, unseen
from clipshift.training.loop import CHECKPOINT, Labels, Lesson, learn, place, read_checkpoint
from clipshift.training.shards import LEFT_OUT, NAMED, accounted
from clipshift.training.towers import build

LOG = logging.getLogger(__name__)


def read_chosen(
    chosen: Path, classes: int, without: Collection[str] = ()
) -> tuple[list[str], Labels]:
    """Keys, sorted, and labels of the images to train on."""
    table = read_parquet(chosen, ["key", "kept", "labels"])
    table = table.filter(table["kept"]).sort_by("key")
    if without:
        left_out = pc.is_in(table["key"], pa.array(sorted(without), pa.string()))
        table = table.filter(pc.invert(left_out))
    labels = table["labels"].combine_chunks()
    sizes = pc.fill_null(pc.list_value_length(labels), 0).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return table["key"].to_pylist(), Labels(starts, labels.flatten().to_numpy(), classes)


@contextlib.contextmanager
def _processes() -> Iterator[torch.device]:
    """The device of this process, one of several where torchrun started it."""
    if "RANK" not in os.environ:
        yield pick_device()
        return
    die_with_parent()
    cuda = torch.cuda.is_available()
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()


@step(version=1)
def train(
    run: str, split: Path, tars: list[str], training: AnyTraining, spec: AnyControlled,
    classes: list[str] | Path, seed: int, work: Path, model: Path, start: Path | None = None,
    background: str = "#ffffff", epochs: Path | None = None,
) -> None:  # fmt: skip
    """Train, or continue a training, and write its results, on all its processes.

    Args:
        split: what to read: the part of a split that the model's corpus can use.
        tars: the tars to read, as words (see `clipshift.datasets.tar_paths`).
        classes: in the order of their indices, or a file with one a line.
        work: a folder for copy and checkpoint, which is removed at the end.
        model: the weights to write; record and loss go beside them.
        start: weights of the run whose vision tower it starts from.
        background: behind transparent pixels.
        epochs: folder for the weights after every epoch.

    Raises:
        ClipshiftError: the loss is no number, or a start does not fit.
    """
    given = dict(locals())
    assert isinstance(spec, Vision)
    names = classes_of(classes)
    if "RANK" in os.environ:
        work.mkdir(parents=True, exist_ok=True)
        with failures.one_process(work):
            _train(run, split, tars, training, spec, names, seed, work, model, start,
                   background, epochs)  # fmt: skip
        return
    identity = identity_of(split, tars_of(tars, data_folder()), training, seed) | {
        "model": spec.model_dump(mode="json"),
        "classes": names,
        "start": sha256_file(start) if start else None,
    }
    if colour(background) != WHITE:
        identity["background"] = background
    if epochs:
        identity["epochs"] = True
    with alone(work, model, identity) as finished:
        if finished:
            return
        if claim(work, identity):
            LOG.info(f"continuing in {work}")
        failures.forget(work)
        if training.world > 1:
            code = start_step(training, "training.vision.train", given)
            failures.check(work)
            if code:
                sys.exit(code)
        else:
            _train(run, split, tars, training, spec, names, seed, work, model, start,
                   background, epochs)  # fmt: skip
        shutil.rmtree(work)


def _train(
    run: str, split: Path, tars: list[str], training: AnyTraining, spec: Vision,
    names: list[str], seed: int, work: Path, model: Path, start: Path | None, background: str,
    epochs: Path | None,
) -> None:  # fmt: skip
    """One process of a training; the first one writes the results."""
    started = time.time()
    paths = tars_of(tars, data_folder())
    checked = work / LEFT_OUT / "images.json"
    with _processes() as device:
        rank, ranks = place()
        if rank == 0:
            if training.read == "copy":
                copy_split(split, paths, training.cache_px, seed, work / "data",
                           copy_shards(training), background=colour(background),
                           texts=False)  # fmt: skip
            elif not checked.exists():
                write_json(checked, undecodable(paths, read_chosen(split, len(names))[0]))
        if ranks > 1:
            torch.distributed.barrier()
        if training.read == "copy":
            paths = sorted((work / "data").glob("*.tar"))
        left_out = unseen(work)
        keys, labels = read_chosen(split, len(names), left_out.get("undecodable", ()))
        if not keys:
            raise ClipshiftError(f"{split}: none of its images can be decoded: {left_out}")
        index = index_tars(paths, keys)
        epoch_parts = checkpoints.parts_of_epoch(training) if epochs else 0
        training = training.on(len(keys))
        precision = "bf16" if training.precision == "bf16" else "fp32"
        tower = build(training, spec, len(names), seed, work, precision)
        if start:
            start_vision(tower, start)
        lesson = Lesson(index, labels, training, spec, seed, colour(background), epoch_parts)
        learn(lesson, tower, work, device)
    if rank:
        return
    saved = read_checkpoint(work / CHECKPOINT)
    steps = plan(training)
    per_part = steps["samples_per_part"]
    watched = [
        [{"samples": per_part, "loss": f"{loss:.6f}", **more}]
        for loss, more in zip(saved["losses"], saved["watched"], strict=True)
    ]
    write_csv(model.with_name("loss.csv"), loss_rows(watched, per_part))
    checkpoints.save_weights(model, saved["model"])
    # Pass after pass over all images: of a training shorter than one, the first of its order.
    seen = min(steps["samples_seen"], len(keys))
    some = Batches(len(keys), 1, seed, seen, min(len(keys), seen + NAMED))
    first = sorted(keys[row] for batch in some for row, _ in batch)
    split_name, model_name, _ = run.split("-")
    record = {
        "run": run,
        "split": split_name,
        "split_sha256": sha256_file(split),
        "split_samples": read_json(split.with_suffix(".json"))["out"],
        "keys": accounted(len(keys), len(keys) - seen, first),
        "model": model_name,
        "model_sha256": sha256_file(model),
        "parameters": sum(v.numel() for v in saved["model"].values()),
        "seed": seed,
        "training": training.model_dump(mode="json"),
        "controlled": spec.model_dump(mode="json"),
        "classes": names,
        "plan": steps,
        "samples_seen": steps["samples_seen"],
        "final_loss": saved["losses"][-1],
        "command": [*program(training, "clipshift.core.step"), "training.vision.train"],
        "seconds_of_last_start": round(time.time() - started, 1),
        "versions": {p: version(p) for p in ("clipshift", "torch", "open_clip_torch")},
    }
    if epochs:
        record["epochs"] = checkpoints.take_epochs(work, epochs, epoch_parts * per_part)
    write_json(model.with_name("record.json"), record | left_out)
