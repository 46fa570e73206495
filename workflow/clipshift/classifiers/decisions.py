"""What the two detectors say of every picture of a shard: natural, rendition, neither, both.

`python -m clipshift.classifiers.decisions --natural POINT,SCORES --rendition POINT,SCORES --out FILE`
writes `key, natural, rendition, verdict` in the order of keys. Where both fire a picture is of no
domain, and counted.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.study.config.domains import VERDICTS


def accepts(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """(N,) bool; a detector that did not attain its precision accepts nothing."""
    if threshold is None:
        return np.zeros(len(scores), bool)
    accepted: np.ndarray = scores >= np.float32(threshold)
    return accepted


def verdicts(natural: np.ndarray, rendition: np.ndarray) -> np.ndarray:
    """(N,) str from what each detector accepts.

    >>> verdicts(np.array([True, False, True]), np.array([False, False, True])).tolist()
    ['natural', 'neither', 'both']
    """
    place = np.where(natural, np.where(rendition, 3, 0), np.where(rendition, 1, 2))
    return np.array(VERDICTS)[place]


def judge(sides: dict[str, tuple[Path, Path]]) -> pa.Table:
    """The verdicts on a shard, from domain -> (operating point, scores).

    Raises:
        ClipshiftError: the classifiers scored different pictures, or one knows no such domain.
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
                f"{file}: other pictures than those that the other detector scored; delete both "
                "and run again"
            )
        keys = rows["key"]
        columns[domain] = rows[domain]
        threshold = read_json(point)["domains"][domain]["threshold"]
        accepted[domain] = accepts(rows[domain].to_numpy(), threshold)
    verdict = verdicts(accepted["natural"], accepted["rendition"])
    return pa.table({"key": keys, **columns, "verdict": pa.array(verdict.tolist(), pa.string())})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for domain in ("natural", "rendition"):
        parser.add_argument(f"--{domain}", required=True, metavar="POINT,SCORES")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sides = {}
    for domain in ("natural", "rendition"):
        point, scores = getattr(args, domain).split(",")
        sides[domain] = Path(point), Path(scores)
    judged = judge(sides)
    write_parquet(args.out, judged)
    counts = Counter(judged["verdict"].to_pylist())
    write_json(args.out.with_suffix(".json"), {v: counts[v] for v in VERDICTS})
    print(json.dumps(counts))


if __name__ == "__main__":
    run(main)
