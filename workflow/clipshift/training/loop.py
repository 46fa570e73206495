"""The training loop of objectives on a vision tower with a head.

A step is a batch over all processes, in as many parts as accumulate. Images, order and augmentation
follow from (seed, step) alone, so that a training that continues ends with the same bytes.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic
from clipshift.core.weights import fit, read_saved
from clipshift.datasets.images import WHITE, Colour
from clipshift.study.config.objective_base import Vision
from clipshift.study.config.trainings import Training
from clipshift.training import checkpoints
from clipshift.training.clip import plan
from clipshift.training.images import Batches, ImageViews, Index
from clipshift.training.launch import WORKERS
from clipshift.training.towers import TowerWithHead, groups
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
        parts = np.zeros((len(rows), self.count), np.float32)
        for i, row in enumerate(rows):
            labels = self.classes[self.starts[row] : self.starts[row + 1]]
            if len(labels):
                parts[i, labels] = 1 / len(labels)
        return parts


@dataclass(frozen=True)
class Lesson:
    """What is learnt from, and how; index and labels speak of the same images.

    epoch_parts: parts of an epoch whose weights are kept; 0: none are.
    """

    index: Index
    labels: Labels
    training: Training
    spec: Vision
    seed: int
    background: Colour = WHITE
    epoch_parts: int = 0


def schedule(training: Training, spec: Vision) -> Callable[[int], float]:
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


def optimizer_of(model: nn.Module, training: Training, spec: Vision) -> torch.optim.Optimizer:
    parts = groups(model, training.weight_decay)
    if spec.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=training.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parts, lr=training.lr)


@dataclass(frozen=True)
class Gradients:
    """Adds the gradient of a batch's loss to the parameters.

    Attributes:
        model: a `TowerWithHead`, or what shares it among processes.
        parts: in which this process's share of the batch passes.
    """

    model: nn.Module
    spec: Vision
    precision: str
    parts: int
    device: torch.device
    scaler: torch.amp.GradScaler

    def __call__(self, views: Tensor, targets: Tensor) -> float:
        """
        Args:
            views: (B, 3, H, W), or (B, V, 3, H, W); targets: (B, classes).

        Returns:
            the loss of the batch.
        """
        passes = views.chunk(self.parts)
        if self.parts == 1 or self.spec.separable:
            shares = zip(passes, targets.chunk(self.parts), strict=True)
            return sum(self._part(n, *share) for n, share in enumerate(shares))
        return self._cached(passes, targets)

    def _part(self, number: int, views: Tensor, targets: Tensor) -> float:
        with self._shared(number):
            with self._autocast():
                loss = self.spec.loss(self._forward(views), targets) / self.parts
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _cached(self, passes: Sequence[Tensor], targets: Tensor) -> float:
        """Gradients of outputs first, then of parameters (GradCache, Gao et al. 2021).

        Each part passes twice, with the same random numbers; the first pass leaves running
        statistics alone. Batch norms see a part at once, whatever the batch.
        """
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.no_grad(), _still(self.model), self._autocast():
            outputs = [self._forward(views) for views in passes]
        leaves = [output.detach().requires_grad_() for output in outputs]
        # (V, b, K) of each part: first views of the whole batch come first.
        split = [leaf.view(self.spec.views, -1, leaf.shape[1]) for leaf in leaves]
        with self._autocast():
            loss = self.spec.loss(torch.cat(split, dim=1).flatten(0, 1), targets)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        for number, (views, leaf) in enumerate(zip(passes, leaves, strict=True)):
            with self._shared(number):
                with self._autocast():
                    output = self._forward(views)
                output.backward(leaf.grad)  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _forward(self, views: Tensor) -> Tensor:
        # (B, V, 3, H, W) as (V * B, 3, H, W), all first views first.
        flat = views if views.ndim == 4 else views.transpose(0, 1).flatten(0, 1)
        dtype = torch.bfloat16 if self.precision == "bf16" else None
        output: Tensor = self.model(flat.to(self.device, dtype, memory_format=torch.channels_last))
        return output

    def _shared(self, number: int) -> contextlib.AbstractContextManager[None]:
        """Processes add up their gradients in the last part."""
        if isinstance(self.model, nn.parallel.DistributedDataParallel) and number + 1 < self.parts:
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> Any:
        if self.precision not in ("amp", "amp_bf16"):
            return contextlib.nullcontext()
        half = torch.float16 if self.precision == "amp" else torch.bfloat16
        return torch.autocast(self.device.type, half)


@contextlib.contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of their batch, and keep none of it."""
    norms: list[Any] = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def learn(lesson: Lesson, model: TowerWithHead, work: Path, device: torch.device) -> None:
    """Train, or continue, and leave the last checkpoint in `work`."""
    training, spec = lesson.training, lesson.spec
    rank, ranks = place()
    # Channels last: as open_clip's trainer is started, a quarter faster on CPUs.
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if training.grad_checkpointing:
        model.visual.set_grad_checkpointing()  # type: ignore[operator]
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
    gradients = Gradients(parallel, spec, training.precision, training.accumulation, device, scaler)
    images = ImageViews(lesson.index, spec.view(training, model.visual), lesson.seed,
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
            optimizer.zero_grad()
            value = gradients(views, targets)
            check_loss(value, number + 1, rate(number), work, watched)
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
            checkpoints.keep_epoch(work, part + 1, lesson.epoch_parts, model.state_dict())
            with atomic(file) as stream:
                parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "scaler": scaler}
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save(states | {"losses": losses, "watched": watched}, stream)
            checkpoints.tell_progress(work, part + 1)


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


def place() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
