"""A small study's scores on disk, made by the real functions from random embeddings with ties."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from clipshift.core.files import read_parquet, write_parquet
from clipshift.datasets.shards import write_table
from clipshift.similarity import margins
from clipshift.similarity.dedup.rules import decide
from clipshift.similarity.dedup.scores import PAIRS, Group, score
from clipshift.similarity.embeddings import Embeddings, in_key_order
from clipshift.splits import split
from clipshift.splits.recipes import Margins
from clipshift.study.config.splits import Split
from tests.conftest import row, unit

KEPT_BY_DEDUP = 0.999


@dataclass(frozen=True)
class Study:
    """Embeddings of a pool, its test sets and the reference set, with the files of their scores."""

    pool: Embeddings
    tests: dict[str, Embeddings]
    reference: Embeddings
    scores: split.Scores
    threshold: float

    def similarity(self, name: str, keys: Sequence[str]) -> np.ndarray:
        """(M, n) exact similarities of a test set to some pool points."""
        rows = [self.pool.keys.index(k) for k in keys]
        points = self.pool.vectors[rows].astype(np.float64)
        return self.tests[name].vectors.astype(np.float64) @ points.T

    def limit(self, name: str) -> np.ndarray:
        """(M, 1) exact similarity of each test image to the reference set."""
        reference = self.reference.vectors.astype(np.float64)
        return (self.tests[name].vectors.astype(np.float64) @ reference.T).max(1, keepdims=True)


def make_study(
    folder: Path, seed: int = 0, n: int = 80, shards: int = 3, order_seed: int = 0,
    distinct: int = 40, threshold: float = KEPT_BY_DEDUP, lost: int = 0, images: int = 6,
) -> Study:  # fmt: skip
    """Write the scores of a study; `shards` and `order_seed` change only how its files are cut.

    Args:
        lost: pool points without an embedding.
    """
    rng = np.random.default_rng(seed)
    handful = unit(rng.normal(size=(distinct, 5)))
    near = unit(rng.normal(size=(9, 5)))
    handful[:3] = near[: min(3, distinct)]  # some pool points are copies of reference images
    pool = Embeddings(
        handful[rng.integers(0, distinct, n)], [f"pool-{i:03d}" for i in rng.permutation(n)]
    )
    tests = {
        name: Embeddings(unit(rng.normal(size=(images, 5))), [f"{name}-{i}" for i in range(images)])
        for name in ("sketch", "photo")
    }
    reference = Embeddings(near, [f"ref-{i}" for i in range(9)])
    order = np.random.default_rng(order_seed).permutation(n)
    tables: list[Path] = []
    scored: dict[str, list[Path]] = {name: [] for name in tests}
    embedded = [i for i in order if int(pool.keys[i].removeprefix("pool-")) >= lost]
    part = in_key_order(_part(pool, embedded))
    group = Group(part.vectors, np.array(part.keys), np.zeros(len(part.keys), np.int32))
    write_parquet(folder / "scores.parquet", score(group, None)[0])
    limits = {name: margins.reference_table(reference, t) for name, t in tests.items()}
    for name, limit in limits.items():
        write_parquet(folder / f"{name}.limits.parquet", limit)
    for shard, part in enumerate(np.array_split(order, shards)):
        table = folder / f"{shard:05d}.parquet"
        write_table(table, [row("pool", pool.keys[i].removeprefix("pool-")) for i in part])
        tables.append(table)
        mine = [i for i in part if i in embedded]
        for name, queries in tests.items():
            file = folder / f"{name}.{shard}.parquet"
            rows = margins.shard_table(_part(pool, mine), queries, limits[name])
            shuffle = np.random.default_rng(order_seed).permutation(len(rows))
            write_parquet(file, rows.take(pa.array(shuffle)))
            scored[name].append(file)
    write_table(folder / "reference.parquet", [row("ref", k[4:]) for k in reference.keys])
    thresholds = {name: folder / f"{name}.limits.parquet" for name in tests}
    own: dict[str, Sequence[Path]] = {}
    for name, queries in tests.items():
        own[name] = [folder / f"{name}.reference.parquet"]
        write_parquet(own[name][0], margins.shard_table(reference, queries, limits[name]))
    scores = split.Scores(
        tables,
        [deduplicate(folder, threshold)],
        Margins(scored, thresholds),
        [folder / "reference.parquet"],
        Margins(own, thresholds),
    )
    return Study(pool, tests, reference, scores, threshold)


def deduplicate(folder: Path, threshold: float) -> Path:
    """Apply a threshold to the scores of a study."""
    out = folder / f"dropped-{threshold}.parquet"
    scores = read_parquet(folder / "scores.parquet")
    write_parquet(out, decide(scores, PAIRS.empty_table(), "earlier-neighbour", threshold))
    return out


def _part(rows: Embeddings, which: Sequence[int] | np.ndarray) -> Embeddings:
    return Embeddings(rows.vectors[list(which)], [rows.keys[i] for i in which])


def make_split(
    study: Study, out: Path, recipe: str, threshold: float | None = None, **keys: Any
) -> list[dict[str, Any]]:
    """Rows of the split of a recipe, as the configuration would spell it."""
    spec = TypeAdapter(Split).validate_python({"recipe": recipe, **keys})
    scores = study.scores
    if threshold is not None:
        folder = Path(scores.embedded[0]).parent
        scores = replace(scores, embedded=[deduplicate(folder, threshold)])
    if not spec.reference:
        scores = replace(scores, reference=[])
    if not spec.reference_driving_sets():
        scores = replace(scores, reference_margins=Margins({}, {}))
    if spec.within:
        scores = replace(scores, within=out.with_name(f"{spec.within}.parquet"))
    split.make(spec, scores, out)
    return pq.read_table(out).to_pylist()


def kept(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Keys of the pool points that a split keeps."""
    return {r["key"] for r in rows if r["kept"] and r["reason"] != "reference"}


def candidates(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Keys of the pool points that de-duplication left."""
    out = ("duplicate", "not embedded", "reference")
    return {r["key"] for r in rows if r["reason"] not in out}


def removed(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Keys of the candidates that the recipe removed."""
    return candidates(rows) - kept(rows)
