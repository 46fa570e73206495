"""Reading nearest neighbours: one similarity per test image, in the order of its keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet


@dataclass(frozen=True)
class Nearest:
    """Test keys, sorted, and the (M,) float64 similarity of each to its nearest neighbour."""

    keys: list[str]
    similarity: np.ndarray


def read_nearest(path: Path) -> Nearest:
    """The nearest neighbours (rank 0) of a test set in one base."""
    table = read_parquet(path, ["test_key", "rank", "similarity"])
    first = table.filter(pc.equal(table["rank"], 0)).sort_by("test_key")
    return Nearest(first["test_key"].to_pylist(), first["similarity"].to_numpy())


def read_training(paths: Sequence[str]) -> Nearest:
    """The nearest neighbours in several bases together: per test image the largest similarity.

    A base without points (a split that keeps none of the pool) adds nothing.

    Raises:
        ClipshiftError: no base has a point, or they are about different test images.
    """
    nearest = {path: read_nearest(Path(path)) for path in paths}
    filled = [path for path in paths if nearest[path].keys]
    if not filled:
        raise ClipshiftError(
            f"{', '.join(paths)} hold no neighbour: there is no training data to be near to"
        )
    parts = same_images([nearest[path] for path in filled], filled)
    return Nearest(parts[0].keys, np.max([part.similarity for part in parts], axis=0))


def same_images(parts: Sequence[Nearest], where: Sequence[str]) -> Sequence[Nearest]:
    """The parts, once they are known to speak of the same test images."""
    for part, path in zip(parts, where, strict=True):
        if part.keys != parts[0].keys:
            raise ClipshiftError(
                f"{path} and {where[0]} are about different test images; delete both and run again"
            )
    return parts


def read_neighbours(path: Path, ranks: int | None = None) -> pa.Table:
    """`test_key, rank, key, similarity`, the first `ranks` of each test image."""
    table = read_parquet(path, ["test_key", "rank", "key", "similarity"])
    if ranks is not None:
        table = table.filter(pc.less(table["rank"], ranks))
    return table.sort_by([("test_key", "ascending"), ("rank", "ascending")])
