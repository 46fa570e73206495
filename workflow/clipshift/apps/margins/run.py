"""`clipshift margins`: margins of any embedding folder, without Snakemake; `clipshift verify`.

Reads clip-retrieval folders and writes `OUT/{test}/{shard}.parquet`,
`OUT/thresholds/{test}.parquet`, `OUT/certificates/{shard}.json` and `OUT/run.json`. A shard whose
certificate fits its input is not computed again, so a killed run continues.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.similarity.embeddings import (
    Embeddings,
    list_shards,
    open_rows,
    read_all,
    refuse_repeats,
    shard_paths,
)
from clipshift.similarity.engine.exact import rounding
from clipshift.similarity.engine.scan import Maxima, scan
from clipshift.similarity.given import Given, Names, as_folder
from clipshift.similarity.margins import (
    Tests,
    identity,
    prepare,
    reference_tables,
    rows_table,
    write_shard,
)
from clipshift.similarity.neighbours import Neighbours

COLUMNS = ["test_key", "similarity"]


@dataclass(frozen=True)
class Folder:
    """Where a run's files lie."""

    out: Path

    def table(self, test: str, shard: str) -> Path:
        return self.out / test / f"{shard}.parquet"

    def thresholds(self, test: str) -> Path:
        return self.out / "thresholds" / f"{test}.parquet"

    def certificate(self, shard: str) -> Path:
        return self.out / "certificates" / f"{shard}.json"

    @property
    def run(self) -> Path:
        return self.out / "run.json"


def margins(
    pool: Given, tests: Mapping[str, Given], reference: Given, out: Path, device: str = "auto",
    screen: Any = "auto", k: int = 0, grid: list[float] | None = None, normalise: bool = False,
    names: Names | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Margins of all shards of `pool`; the record of the run.

    Args:
        pool, tests, reference: paths, or arrays: (N, D) vectors with N keys
            (`similarity.given.as_folder`, which takes `normalise` and `names`, too).
        k, grid: also write the k nearest points of each test image, and how many lie above each
            similarity of the grid, to `OUT/{test}.neighbours.parquet` and `.density.parquet`.

    Raises:
        ClipshiftError: an input cannot be read; or `out` holds a run of other inputs.
    """
    at = Folder(out)
    given = {"pool": pool, "reference": reference, **{f"test {n}": g for n, g in tests.items()}}
    inputs = {name: _opened(at, name, one, normalise, names) for name, one in given.items()}
    _claim(at, inputs)
    embedded = {name: read_all(inputs[f"test {name}"]) for name in tests}
    sides = _sides(at, embedded, inputs["reference"], device)
    pool = inputs["pool"]
    shards = list_shards(pool)
    rows = {shard: len(open_rows(pool, shard)[0]) for shard in shards}
    refuse_repeats(pool, shards)
    scanner = prepare(pool, shards, sides, device, screen)
    record: dict[str, Any] = {"rows": 0, "above_threshold": dict.fromkeys(tests, 0)}
    with tqdm(
        total=sum(rows.values()), desc="margins", unit=" points", unit_scale=True, mininterval=2,
        file=sys.stderr,
    ) as progress:  # fmt: skip
        for shard in shards:
            done = _done(at, pool, shard, sides)
            if done is None:
                tables = {name: at.table(name, shard) for name in tests}
                done = write_shard(
                    pool, shard, sides, scanner, tables, at.certificate(shard), progress
                )
            else:
                progress.update(rows[shard])
            record["rows"] += done["rows"]
            for name in tests:
                record["above_threshold"][name] += done["tests"][name]["above_threshold"]
    if k or grid:
        _neighbours(pool, shards, embedded, at, max(k, 1), grid or [], device)
    return record


def _opened(at: Folder, name: str, given: Given, normalise: bool, names: Names | None) -> Path:
    """The embedding folder of an input; one of ours where the user's is none."""
    made = as_folder(given, at.out / "given" / name.replace(" ", "-"), normalise, names)
    for line in made.said:
        print(f"{name}: {line}", file=sys.stderr)
    return made.folder


def _claim(at: Folder, inputs: dict[str, Path]) -> None:
    """Refuse a folder that holds the margins of other inputs."""
    words: dict[str, Any] = {name: str(path.resolve()) for name, path in inputs.items()}
    # Shards of the pool are in their certificates; the other sides decide every shard.
    words["files"] = {
        name: {p.name: identity(p) for s in list_shards(path) for p in shard_paths(path, s)}
        for name, path in inputs.items()
        if name != "pool"
    }
    if at.run.exists() and (before := read_json(at.run)) != words:
        changed = sorted(k for k in {*words, *before} if words.get(k) != before.get(k))
        raise ClipshiftError(
            f"{at.out} holds margins of other inputs ({', '.join(changed)} differ). Name another "
            "--out, or delete that folder"
        )
    write_json(at.run, words)


def _sides(
    at: Folder, embedded: dict[str, Embeddings], reference: Path, device: str
) -> dict[str, Tests]:
    missing = {n: tests for n, tests in embedded.items() if not at.thresholds(n).exists()}
    if missing:
        print(f"thresholds of {', '.join(missing)}", file=sys.stderr)
        for name, table in reference_tables(read_all(reference), missing, device).items():
            write_parquet(at.thresholds(name), table)
    return {n: Tests.of(t, read_parquet(at.thresholds(n), COLUMNS)) for n, t in embedded.items()}


def _done(at: Folder, pool: Path, shard: str, sides: dict[str, Tests]) -> dict[str, Any] | None:
    """The certificate of a shard that is finished and whose input is still the same."""
    path = at.certificate(shard)
    if not path.exists() or not all(at.table(name, shard).exists() for name in sides):
        return None
    record: dict[str, Any] = read_json(path)
    same = record["inputs"] == {p.name: identity(p) for p in shard_paths(pool, shard)}
    return record if same and set(record["tests"]) == set(sides) else None


def _neighbours(
    pool: Path, shards: list[str], embedded: dict[str, Embeddings], at: Folder, k: int,
    grid: list[float], device: str,
) -> None:  # fmt: skip
    found = {name: Neighbours(len(tests.keys), k, grid) for name, tests in embedded.items()}
    for shard in tqdm(shards, desc="neighbours", mininterval=2, file=sys.stderr):
        vectors, keys = open_rows(pool, shard)
        points = Embeddings(vectors, keys.to_pylist())
        for name, tests in embedded.items():
            found[name].add(points, tests, None, device)
    for name, tests in embedded.items():
        near, density = found[name].tables(tests.keys)
        write_parquet(at.out / f"{name}.neighbours.parquet", near)
        if grid:
            write_parquet(at.out / f"{name}.density.parquet", density)


def verify(out: Path, sample: int, seed: int) -> dict[str, int]:
    """Compute a seeded sample of the points of every shard again, plainly in float64.

    Returns:
        Numbers of points and of pairs that were checked.

    Raises:
        ClipshiftError: an input or the run is not there, an input changed, or a value differs.
    """
    at = Folder(out)
    if not at.run.exists():
        raise ClipshiftError(f"{at.run} is missing: `clipshift margins` writes it first")
    words = read_json(at.run)
    inputs = {name: Path(path) for name, path in words.items() if name != "files"}
    _claim(at, inputs)
    pool = inputs["pool"]
    tests = {n.removeprefix("test "): read_all(p) for n, p in inputs.items() if n[:5] == "test "}
    sides = {n: Tests.of(t, read_parquet(at.thresholds(n), COLUMNS)) for n, t in tests.items()}
    _verify_thresholds(at, tests, read_all(inputs["reference"]))
    checked = {"points": 0, "pairs": 0}
    for shard in tqdm(list_shards(pool), desc="verify", mininterval=2, file=sys.stderr):
        if _done(at, pool, shard, sides) is None:
            raise ClipshiftError(
                f"{at.certificate(shard)} or a table of the shard is missing, or its input "
                "changed; run `clipshift margins` again"
            )
        vectors, keys = open_rows(pool, shard)
        rng = np.random.default_rng([seed, len(vectors)])
        rows = np.sort(rng.choice(len(vectors), min(sample, len(vectors)), replace=False))
        some = vectors[rows]
        found, counts = scan(some, [s.columns for s in sides.values()], "cpu", "none")
        for (name, side), truth in zip(sides.items(), found, strict=True):
            stored = read_parquet(at.table(name, shard), ["key"]).num_rows
            if stored != len(vectors):
                raise ClipshiftError(
                    f"{at.table(name, shard)} has {stored} rows, not {len(vectors)}"
                )
            slip = rounding(vectors.shape[1], vectors.dtype == np.float16)
            _compare(at.table(name, shard), keys.take(rows), truth, side, rows, slip)
        checked["points"] += len(rows)
        checked["pairs"] += counts.pairs
    return checked


def _verify_thresholds(at: Folder, tests: dict[str, Embeddings], reference: Embeddings) -> None:
    wide = reference.vectors.astype(np.float64)
    for name, some in tests.items():
        stored = read_parquet(at.thresholds(name), COLUMNS)
        order = np.argsort(some.keys)[:100]
        truth = (some.vectors[order].astype(np.float64) @ wide.T).max(1)
        if np.abs(truth - stored["similarity"].to_numpy()[:100]).max(initial=0) > 1e-12:
            raise ClipshiftError(f"{at.thresholds(name)} disagrees with float64; delete {at.out}")


def _compare(
    path: Path, keys: pa.ChunkedArray, truth: Maxima, side: Tests, rows: np.ndarray, slip: float
) -> None:
    stored = read_parquet(path).take(rows)
    wanted = rows_table(keys.combine_chunks(), truth, side.keys)
    for name in wanted.column_names:
        a, b = stored[name].to_numpy(), wanted[name].to_numpy()
        # float64 of float32 vectors is right to `slip`; float16 ones to the last bit.
        close = slip > 0 and name in ("max_similarity", "margin")
        differs = np.abs(a - b) > 2e-7 if close else a != b
        if slip > 0 and name in ("nearest_test_key", "margin_test_key"):
            continue  # which of two columns within rounding of each other is first
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            raise ClipshiftError(
                f"{path} disagrees with float64 in {int(differs.sum())} of {len(rows)} points, "
                f"first in row {rows[row]} (key {keys[row].as_py()!r}): {name} is {a[row]}, "
                f"not {b[row]}. Delete the shard's tables and run `clipshift margins` again"
            )
