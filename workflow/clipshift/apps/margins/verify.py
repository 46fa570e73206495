"""`clipshift verify`: every file and number of a finished run of `clipshift margins`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipshift.apps.margins.folder import (
    CERTIFICATE,
    KIND,
    Folder,
    foreign_files,
    pool_files,
    refuse,
    side_files,
)
from clipshift.apps.margins.near import NearCheck
from clipshift.apps.margins.numbers import ShardNumbers, check_table, check_thresholds, fault
from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import differing
from clipshift.core.output_folder import locked, read_record
from clipshift.similarity.embeddings import Embeddings, list_shards, open_rows, read_all
from clipshift.similarity.engine.exact import rounding
from clipshift.similarity.engine.scan import scan
from clipshift.similarity.margins import LISTED, Tests

LISTED_FILES = 20
AGAIN = "run `clipshift margins` again, which makes it again"


def verify(out: Path, sample: int, seed: int) -> dict[str, int]:
    """Check the files of a run against its manifest, and its numbers plainly in float64.

    Args:
        sample: points of each shard whose maxima, and test images whose neighbours, are computed
            again. Of all others the pairs are that their rows name.

    Returns:
        Numbers of points and of pairs that were computed again.

    Raises:
        ClipshiftError: an input or a file of the run is not there or changed, or a value differs.
    """
    with locked(out, reading=True):
        return _Run(Folder(out)).check(sample, seed)


class _Run:
    """A finished run, whose files are all those that its manifest lists."""

    def __init__(self, at: Folder) -> None:
        self.at = at
        if not at.run.exists():
            raise ClipshiftError(f"{at.run} is missing: `clipshift margins` writes it first")
        claim = self._record(at.run, "given", "files")
        named = {n: p for n, p in claim.items() if n not in ("files", "given")}
        self.inputs = {name: Path(path) for name, path in named.items()}
        self.pool = self.inputs["pool"]
        self.tests = [name.removeprefix("test ") for name in named if name.startswith("test ")]
        refuse(at, {"files": side_files(self.inputs)}, {"files": claim["files"]})
        keys = ("kind", "files", "pool", "neighbours", "rows", "above_threshold")
        self.manifest = self._record(at.manifest, *keys)
        if self.manifest["kind"] != KIND:
            raise ClipshiftError(f"{at.manifest} is not of `clipshift margins`")
        self._check_files()

    def _record(self, path: Path, *keys: str) -> dict[str, Any]:
        found = read_record(path, *keys)
        if found is None:
            state = "damaged, or of an earlier version" if path.exists() else "missing"
            raise ClipshiftError(f"{path} is {state}: {AGAIN}")
        return found

    def _check_files(self) -> None:
        """All faults of files in one message."""
        at, files = self.at, self.manifest["files"]
        thresholds = [at.thresholds(name) for name in self.tests]
        wanted = [at.run, *thresholds, *(path.with_suffix(".json") for path in thresholds)]
        for shard in self.manifest["pool"]:
            wanted += [at.certificate(shard), *(at.table(name, shard) for name in self.tests)]
        near = self.manifest["neighbours"]
        for name in self.tests if near else ():
            wanted += at.neighbours(name)[: 2 if near["grid"] else 1]
        said = [f"{path} is damaged or missing" for path in differing(at.out, files)]
        said += [
            f"{path} is not in the manifest"
            for path in wanted if path.relative_to(at.out).as_posix() not in files
        ]  # fmt: skip
        said += [f"{path} is no file of the run" for path in foreign_files(at, self.tests, files)]
        if said:
            more = f" and {len(said) - LISTED_FILES} more" if len(said) > LISTED_FILES else ""
            raise ClipshiftError(
                f"{len(said)} faults of files: {'; '.join(said[:LISTED_FILES])}{more}. Run "
                "`clipshift margins` again, which makes its files again; remove those that are "
                "none of it"
            )

    def check(self, sample: int, seed: int) -> dict[str, int]:
        at, shards = self.at, list_shards(self.pool)
        if gone := {*self.manifest["pool"]} ^ {*shards}:
            raise ClipshiftError(
                f"{self.pool} is not the pool of the run, its input changed: shards "
                f"{sorted(gone)[:5]} came or left; {AGAIN}"
            )
        embedded = {name: read_all(self.inputs[f"test {name}"]) for name in self.tests}
        reference = read_all(self.inputs["reference"])
        sides = {}
        for name, tests in embedded.items():
            table = check_thresholds(at.thresholds(name), tests, reference)
            record = self._record(at.thresholds(name).with_suffix(".json"), "rows")
            if record["rows"] != len(table):
                fault(at.thresholds(name).with_suffix(".json"), "has another number of rows")
            sides[name] = Tests.of(tests, table)
        points = sum(len(open_rows(self.pool, shard)[0]) for shard in shards)
        near = self._near(embedded, points, sample, seed)
        checked = {"points": 0, "pairs": 0}
        above = dict.fromkeys(self.tests, 0)
        for shard in tqdm(shards, desc="verify", mininterval=2, file=sys.stderr):
            self._shard(shard, sides, near, sample, seed, checked, above)
        for one in near:
            one.finish()
            checked["pairs"] += one.pairs
        for key, value in (("rows", points), ("above_threshold", above)):
            if self.manifest[key] != value:
                fault(at.manifest, f"disagrees with the tables: {key} is {self.manifest[key]}, "
                      f"not {value}")  # fmt: skip
        return checked

    def _near(
        self, embedded: Mapping[str, Embeddings], points: int, sample: int, seed: int
    ) -> list[NearCheck]:
        asked = self.manifest["neighbours"]
        return [
            NearCheck(*self.at.neighbours(name), tests, asked["k"], asked["grid"], points, sample,
                      seed)
            for name, tests in embedded.items() if asked
        ]  # fmt: skip

    def _shard(
        self, shard: str, sides: Mapping[str, Tests], near: list[NearCheck], sample: int,
        seed: int, checked: dict[str, int], above: dict[str, int],
    ) -> None:  # fmt: skip
        at = self.at
        keys = (*CERTIFICATE, "pairs", "screen", "float64_rounding")
        record = self._record(at.certificate(shard), *keys)
        if not record["inputs"] == self.manifest["pool"][shard] == pool_files(self.pool, shard):
            raise ClipshiftError(
                f"{at.certificate(shard)} is of other files: its input "
                f"{self.pool} (shard {shard}) changed; {AGAIN}"
            )
        vectors, names = open_rows(self.pool, shard)
        rng = np.random.default_rng([seed, len(vectors)])
        rows = np.sort(rng.choice(len(vectors), min(sample, len(vectors)), replace=False))
        found, counts = scan(vectors[rows], [s.columns for s in sides.values()], "cpu", "none")
        numbers = {
            name: check_table(at.table(name, shard), vectors, names, side, rows, truth)
            for (name, side), truth in zip(sides.items(), found, strict=True)
        }
        try:
            _check_certificate(at.certificate(shard), record, shard, vectors, names, sides, numbers)
        except (KeyError, TypeError, AttributeError) as error:
            fault(at.certificate(shard), f"is no certificate of margins ({error!r})")
        for one in near:
            one.add(vectors, names)
        for name, found_here in numbers.items():
            above[name] += found_here.above
        checked["points"] += len(rows)
        checked["pairs"] += counts.pairs


def _check_certificate(
    path: Path, record: Mapping[str, Any], shard: str, vectors: np.ndarray,
    keys: pa.ChunkedArray, sides: Mapping[str, Tests], numbers: Mapping[str, ShardNumbers],
) -> None:  # fmt: skip
    """Compare the counts of a certificate with those of its tables."""
    every = (vectors, *(side.columns.vectors for side in sides.values()))
    bound = 2 * rounding(vectors.shape[1], all(v.dtype == np.float16 for v in every))
    pairs = record["pairs"]
    wanted: dict[str, tuple[Any, Any]] = {
        "shard": (record["shard"], shard),
        "rows": (record["rows"], len(vectors)),
        "pairs": (pairs["all"], len(vectors) * sum(len(s.keys) for s in sides.values())),
        "pairs decided": (pairs["decided_by_screen"] + pairs["computed_in_float64"], pairs["all"]),
        "dimension": (record["screen"]["dimension"], vectors.shape[1]),
        "float64_rounding": (record["float64_rounding"], bound),
        "test sets": (sorted(record["tests"]), sorted(sides)),
    }
    for name, side in sides.items():
        one, found = record["tests"].get(name, {}), numbers[name]
        wanted[f"images of {name}"] = (one["images"], len(side.keys))
        wanted[f"above_threshold of {name}"] = (one["above_threshold"], found.above)
        wanted[f"smallest_margin of {name}"] = (
            one["smallest_margin"],
            found.margins.min() if found.rows else None,
        )
        close = pa.chunked_array([(found.margins <= bound) & (bound > 0)])
        undecided = keys.filter(close).to_pylist()
        wanted[f"undecided of {name}"] = (one["undecided"], len(undecided))
        wanted[f"undecided_keys of {name}"] = (one["undecided_keys"], undecided[:LISTED])
    for what, (said, is_now) in wanted.items():
        if said != is_now:
            fault(path, f"disagrees with its tables: {what} is {said}, not {is_now}")
