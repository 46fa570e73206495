"""The decision on every image of a shard: natural, rendition, neither, both.

The table holds `key, natural, rendition, verdict` in the order of keys. An image that both
detectors accept is of no domain, and counted.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.core.step import step
from clipshift.study.config.domains import DECISIONS


def accepts(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """(N,) bool; a detector that did not attain its precision accepts nothing."""
    if threshold is None:
        return np.zeros(len(scores), bool)
    # In float32, as scores are stored, whatever NumPy promotes a Python float to.
    accepted: np.ndarray = scores >= np.float32(threshold)
    return accepted


def decisions(natural: np.ndarray, rendition: np.ndarray) -> np.ndarray:
    """(N,) str from what each detector accepts.

    >>> decisions(np.array([True, False, True]), np.array([False, False, True])).tolist()
    ['natural', 'neither', 'both']
    """
    # Places in DECISIONS: natural, rendition, neither, both.
    place = np.where(natural, np.where(rendition, 3, 0), np.where(rendition, 1, 2))
    return np.array(DECISIONS)[place]


def judge(sides: dict[str, tuple[Path, Path]]) -> pa.Table:
    """The decisions on a shard, from domain -> (operating point, scores).

    Raises:
        ClipshiftError: the classifiers scored different images, or one knows no such domain.
    """
    columns: dict[str, pa.Array] = {}
    accepted = {}
    keys: pa.ChunkedArray | None = None
    for domain, (point, file) in sides.items():
        rows = read_parquet(file, ["key", domain]).sort_by("key")
        if rows[domain].null_count:
            raise ClipshiftError(f"{file}: this classifier has no score for {domain}")
        if keys is not None and not keys.equals(rows["key"]):
            raise ClipshiftError(
                f"{file}: other images than those that the other detector scored; delete both "
                "and run again"
            )
        keys = rows["key"]
        columns[domain] = rows[domain]
        threshold = read_json(point)["domains"][domain]["threshold"]
        accepted[domain] = accepts(rows[domain].to_numpy(), threshold)
    decision = decisions(accepted["natural"], accepted["rendition"])
    return pa.table({"key": keys, **columns, "verdict": pa.array(decision.tolist(), pa.string())})


@step(version=1)
def write_decisions(sides: dict[str, tuple[Path, Path]], table: Path, counts: Path) -> None:
    """Write the decisions on a shard, and how many there are of each."""
    judged = judge(sides)
    write_parquet(table, judged)
    by_decision = Counter(judged["verdict"].to_pylist())
    write_json(counts, {v: by_decision[v] for v in DECISIONS})
