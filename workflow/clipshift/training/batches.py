"""Exactly the planned batches of each part of a training, counted as they are trained on.

open_clip rounds a part up to a multiple of its reading processes, and its reading processes live on
from part to part with their random states, so that a training resumed would read otherwise. A
reader whose tars hold no full batch would search them forever.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json, write_npy
from clipshift.training.failures import leave
from clipshift.training.shards import Seen


class NoBatch:
    """Last stage of the pipeline: a pass over the tars that gives no batch is an error.

    An error of any stage is left in the work folder: torch gives it on with a traceback in it.
    """

    def __init__(self, size: int, work: Path):
        self.size, self.work = size, work

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from self._some(batches)
        except ClipshiftError as error:
            leave(self.work, error)
            raise

    def _some(self, batches: Iterable[Any]) -> Iterator[Any]:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ClipshiftError(
                f"the tars of one reading process hold fewer than the {self.size} samples of its "
                "share of a batch, so it would search them forever; keep more samples, lower "
                "`batch`, raise `accumulation`, or use `read: copy` with fewer processes"
            )


class ExactLoader:
    """A data loader that gives `num_batches` batches for each part, and counts.

    Attributes:
        num_batches, num_samples: of a part; samples are those of all processes together.
        batches, samples: what this process has trained on in the part at hand.
        seen: the rows that it has ever trained on.
    """

    def __init__(
        self, loader: Any, samples: int, size: int, world: int, workers: int, rows: int, work: Path
    ):
        """
        Args:
            loader: open_clip's (a webdataset.WebLoader), whose batches end in their rows.
            samples: of a part, over all processes.
            size: samples of a batch of this process.
            rows: samples that the training keeps.
        """
        inner: DataLoader[Any] = loader.pipeline[0]
        inner.dataset.append(NoBatch(size, work))  # type: ignore[attr-defined]
        # New readers for each part: their random states follow from this process's, which are set.
        self._loader = (
            DataLoader(inner.dataset, batch_size=None, num_workers=workers) if workers else loader
        )
        self.num_batches = samples // (size * world)
        self.num_samples = samples
        self.batches = self.samples = 0
        self.seen = Seen(rows)

    def __iter__(self) -> Iterator[Any]:
        self.batches = self.samples = 0
        for *batch, rows in islice(self._loader, self.num_batches):
            self.batches += 1
            self.samples += len(rows)
            self.seen.add(np.asarray(rows))
            yield batch


def write_count(
    loader: ExactLoader, folder: Path, part: int, world: int, rank: int, watched: list[Any]
) -> None:
    """Add up what all processes trained on in a part; the first of them writes it down.

    Each process keeps the rows that it has seen in any part. A part that is repeated sees the same.

    Args:
        watched: of the steps of the part (see `watch.Watch`).
    """
    seen = folder / f"seen-{rank}.npy"
    loader.seen.merge(seen)
    write_npy(seen, loader.seen.bits)
    total = torch.tensor([loader.samples, loader.batches])
    if world > 1:
        # Through the main backend: NCCL wants the numbers on the GPU.
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        total = total.to(device)
        torch.distributed.all_reduce(total)
    samples, batches = total.tolist()
    if rank == 0:
        count = {"samples": samples, "batches": batches, "watched": watched}
        write_json(folder / f"{part:05d}.json", count)


def trained(folder: Path, parts: int) -> tuple[int, list[list[dict[str, Any]]]]:
    """Samples that a training saw over all its parts, and what was watched in each.

    Raises:
        ClipshiftError: a part was never counted.
    """
    files = [folder / f"{part:05d}.json" for part in range(parts)]
    if missing := [file.name for file in files if not file.exists()]:
        raise ClipshiftError(
            f"{folder} lacks the counts of {len(missing)} parts of the training, the first "
            f"{missing[0]}; delete {folder.parent} to start anew"
        )
    counts = [read_json(file) for file in files]
    return sum(count["samples"] for count in counts), [count["watched"] for count in counts]


def seen_rows(folder: Path, rows: int) -> np.ndarray:
    """(rows,) bool: which samples any process of a training saw."""
    seen = Seen(rows)
    for file in folder.glob("seen-*.npy"):
        seen.merge(file)
    return seen.rows()
