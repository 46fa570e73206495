"""Train a vision tower by cross-entropy on labels, or by SimCLR, as CLIP's is trained on captions.

The same images, samples seen, checkpoints and outputs as `clipshift.training.clip`: a killed
training continues at its last complete checkpoint and ends with the same bytes. Precision, device
and processes are those of the model (`torch.distributed` with one process a GPU).
"""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from clipshift.core.device import pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_json, read_parquet, sha256_file, write_csv, write_json
from clipshift.core.processes import die_with_parent
from clipshift.core.step import step
from clipshift.core.weights import fit, read_saved
from clipshift.datasets.captions.schema import classes_of
from clipshift.datasets.images import WHITE, Colour, colour
from clipshift.datasets.tar_paths import data_folder, tars_of
from clipshift.study.config.causes import Controlled
from clipshift.study.config.study import Training
from clipshift.training import failures
from clipshift.training.clip import claim, identity_of, loss_rows, plan
from clipshift.training.images import Batches, ImageViews, Index, index_tars, undecodable
from clipshift.training.init_tower import start_vision
from clipshift.training.launch import WORKERS, alone, copy_shards, program, start_step
from clipshift.training.local_copy import copy_split, unseen
from clipshift.training.nt_xent import nt_xent
from clipshift.training.shards import LEFT_OUT, NAMED, accounted
from clipshift.training.towers import TowerWithHead, build, groups, view_of
from clipshift.training.watch import check_loss, gradient_norm

LOG = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_SAVED = {"model", "optimizer", "scaler", "losses", "watched"}


@dataclass(frozen=True)
class Labels:
    """Labels of N images, in the order of their keys; an image may have several, or none.

    starts: (N + 1,) int64, the labels of row i are `classes[starts[i]:starts[i + 1]]`, int32.
    """

    starts: np.ndarray
    classes: np.ndarray
    count: int

    def targets(self, rows: np.ndarray) -> np.ndarray:
        """(B, C) float32: equal parts of an image's labels."""
        found = np.zeros((len(rows), self.count), np.float32)
        for i, row in enumerate(rows):
            mine = self.classes[self.starts[row] : self.starts[row + 1]]
            if len(mine):
                found[i, mine] = 1 / len(mine)
        return found


@dataclass(frozen=True)
class Lesson:
    """What is learnt from, and how; index and labels speak of the same images."""

    index: Index
    labels: Labels
    training: Training
    spec: Controlled
    seed: int
    background: Colour = WHITE


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


def schedule(training: Training, spec: Controlled) -> Callable[[int], float]:
    """Learning rate of each step: open_clip's warm-up and cosine, or steps down by tenths."""
    total = plan(training)["steps_per_part"] * training.checkpoints
    falls = [share * total for share in spec.milestones]

    def rate(step: int) -> float:
        if step < training.warmup:
            return training.lr * (step + 1) / training.warmup
        if falls:
            return float(training.lr * 0.1 ** sum(step >= fall for fall in falls))
        turn = (step - training.warmup) / (total - training.warmup)
        return 0.5 * (1 + math.cos(math.pi * turn)) * training.lr

    return rate


def optimizer_of(model: nn.Module, training: Training, spec: Controlled) -> torch.optim.Optimizer:
    parts = groups(model, training.weight_decay)
    if spec.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=training.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parts, lr=training.lr)


def loss_of(output: Tensor, targets: Tensor, spec: Controlled) -> Tensor:
    """Cross-entropy against (B, C) targets; or NT-Xent of (2B, K) views, first halves first.

    With several processes, SimCLR's candidates are the views of all of them.
    """
    if spec.objective == "cross_entropy":
        return functional.cross_entropy(output, targets)
    first, second = output.float().chunk(2)
    if torch.distributed.is_initialized():
        from torch.distributed.nn.functional import all_gather

        first, second = (torch.cat(all_gather(part)) for part in (first, second))  # type: ignore[no-untyped-call]
    return nt_xent(first, second, spec.temperature)


def learn(lesson: Lesson, model: TowerWithHead, work: Path, device: torch.device) -> None:
    """Train, or continue, and leave the last checkpoint in `work`."""
    training, spec = lesson.training, lesson.spec
    rank, ranks = _place()
    # Channels last: as open_clip's trainer is started, a quarter faster on CPUs.
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = optimizer_of(model, training, spec)
    scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "amp")
    losses: list[float] = []
    watched: list[dict[str, float]] = []
    file = work / CHECKPOINT
    if file.exists():
        saved = read_checkpoint(file)
        fit(model, saved["model"], file)
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        losses, watched = saved["losses"], saved["watched"]
    if ranks > 1 and training.sync_batch_norm:  # names and weights stay
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    parallel = nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    images = ImageViews(lesson.index, view_of(training, spec, model.visual), lesson.seed,
                      lesson.background)  # fmt: skip
    rate, steps = schedule(training, spec), plan(training)["steps_per_part"]
    for part in range(len(losses), training.checkpoints):
        first, total = part * steps, 0.0
        batches = Batches(len(images), training.batch, lesson.seed, first, first + steps, rank,
                          ranks)  # fmt: skip
        loader = DataLoader(
            images, batch_sampler=batches, num_workers=WORKERS if training.gpus else 0,
            pin_memory=device.type == "cuda",
        )  # fmt: skip
        parallel.train()
        for number, (views, rows) in enumerate(loader, start=first):
            for group in optimizer.param_groups:
                group["lr"] = rate(number)
            targets = torch.from_numpy(lesson.labels.targets(rows.numpy())).to(device)
            with _autocast(training.precision, device):
                output = parallel(_flat(views).to(device, memory_format=torch.channels_last))
                loss = loss_of(output, targets, spec)
            value = float(loss.detach())
            check_loss(value, number + 1, rate(number), work, watched)
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            if number == first + steps - 1:
                norm = gradient_norm(model.parameters())
            scaler.step(optimizer)
            scaler.update()
            total += value
        losses.append(total / steps)
        watched.append({"gradient_norm": norm, "learning_rate": rate(number)})
        LOG.info(
            f"part {part + 1} of {training.checkpoints}: mean loss {losses[-1]:.4f}, gradient norm "
            f"{norm:.4g}, learning rate {rate(number):.4g}"
        )
        if rank == 0:
            with atomic(file) as stream:
                parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler}
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save(states | {"losses": losses, "watched": watched}, stream)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """What `learn` saved.

    Raises:
        ClipshiftError: the file is damaged, or no checkpoint of this trainer.
    """
    saved = read_saved(file)
    if not isinstance(saved, dict) or not saved.keys() >= _SAVED:
        raise ClipshiftError(
            f"{file} is no checkpoint of this training; delete {file.parent} to start anew"
        )
    return saved


def _flat(views: Tensor) -> Tensor:
    """(B, 3, H, W) as it is; (B, 2, 3, H, W) as (2B, 3, H, W), all first views first."""
    return views if views.ndim == 4 else views.transpose(0, 1).flatten(0, 1)


def _autocast(precision: str, device: torch.device) -> Any:
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.float16 if precision == "amp" else torch.bfloat16)


def _place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


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
    run: str, split: Path, tars: list[str], training: Training, spec: Controlled,
    classes: list[str] | Path, seed: int, work: Path, model: Path, start: Path | None = None,
    background: str = "#ffffff",
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

    Raises:
        ClipshiftError: the loss is no number, or a start does not fit.
    """
    given = dict(locals())
    names = classes_of(classes)
    if "RANK" in os.environ:
        work.mkdir(parents=True, exist_ok=True)
        with failures.one_process(work):
            _train(run, split, tars, training, spec, names, seed, work, model, start,
                   background)  # fmt: skip
        return
    identity = identity_of(split, tars_of(tars, data_folder()), training, seed) | {
        "model": spec.model_dump(mode="json"),
        "classes": names,
        "start": sha256_file(start) if start else None,
    }
    if colour(background) != WHITE:
        identity["background"] = background
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
                   background)  # fmt: skip
        shutil.rmtree(work)


def _train(
    run: str, split: Path, tars: list[str], training: Training, spec: Controlled,
    names: list[str], seed: int, work: Path, model: Path, start: Path | None, background: str,
) -> None:  # fmt: skip
    """One process of a training; the first one writes the results."""
    started = time.time()
    paths = tars_of(tars, data_folder())
    checked = work / LEFT_OUT / "images.json"
    with _processes() as device:
        rank, ranks = _place()
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
        tower = build(training, spec, len(names), seed, work)
        if start:
            start_vision(tower, start)
        lesson = Lesson(index, labels, training, spec, seed, colour(background))
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
    with atomic(model) as stream:
        torch.save(saved["model"], stream)
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
    write_json(model.with_name("record.json"), record | left_out)
