"""What the definitions of study A promise, checked on the finished study's files.

`CLIPSHIFT_STUDY=FOLDER pytest tests/workflow/test_invariants.py` checks another finished study,
e.g. the mini study: the folder in which it ran, with its configuration.
"""

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clipshift.core.files import read_json, read_parquet
from clipshift.similarity.embeddings import read_all
from clipshift.splits.recipes.far import Far
from clipshift.splits.recipes.near import Near
from clipshift.splits.recipes.pruned import Pruned
from clipshift.splits.recipes.rand import Rand
from clipshift.study.config.study import Config
from clipshift.study.layout.study import Layout
from tests.workflow.runner import ROOT, TEST_CONFIG


class Finished:
    """A finished study: its configuration, splits and similarities recomputed from embeddings."""

    def __init__(self, folder: Path, config: Path):
        self.folder = folder
        self.cfg = Config.model_validate(yaml.safe_load(config.read_text()))
        self.at = Layout(self.cfg)
        embedded = folder / f"results/embeddings/{self.cfg.encoder}"
        self.pool = read_all(embedded / self.cfg.pool)
        self.reference = read_all(embedded / self.cfg.reference)
        self.tests = {name: read_all(embedded / name) for name in self.cfg.test_sets}
        self.row = {key: i for i, key in enumerate(self.pool.keys)}
        self.splits = {name: self.read(name) for name in self.cfg.splits}

    def read(self, split: str) -> dict[str, dict[str, Any]]:
        rows = read_parquet(self.folder / f"results/splits/{split}.parquet").to_pylist()
        return {row["key"]: row for row in rows}

    def similarity(self, name: str) -> np.ndarray:
        """(M, N) exact, float64 products of float16 vectors."""
        tests, pool = self.tests[name].vectors, self.pool.vectors
        return tests.astype(np.float64) @ pool.astype(np.float64).T

    def limit(self, name: str) -> np.ndarray:
        """(M,) similarity of each test image to the reference set."""
        reference = self.reference.vectors.astype(np.float64)
        return (self.tests[name].vectors.astype(np.float64) @ reference.T).max(1)

    def kept(self, split: str) -> set[str]:
        return {k for k, r in self.splits[split].items() if r["kept"] and k in self.row}

    def candidates(self, split: str) -> set[str]:
        return {
            key
            for key, row in self.splits[split].items()
            if key in self.row and row["reason"] not in ("duplicate", "not embedded")
        }

    def of(self, kind: type) -> list[tuple[str, Any]]:
        return [(n, s) for n, s in self.cfg.splits.items() if isinstance(s, kind)]


@pytest.fixture(scope="module")
def done(request: pytest.FixtureRequest) -> Finished:
    if folder := os.environ.get("CLIPSHIFT_STUDY"):
        return Finished(Path(folder), ROOT / "config/mini.yaml")
    return Finished(request.getfixturevalue("study"), TEST_CONFIG)


def test_pruned_training_sets_are_no_closer_than_the_reference(done: Finished) -> None:
    """s_i(kept) <= s_i(reference) for every i, or above it by the tolerance at most."""
    assert done.of(Pruned)
    for name, split in done.of(Pruned):
        columns = [done.row[key] for key in sorted(done.kept(name))]
        gaps = {s: done.similarity(s) - done.limit(s)[:, None] for s in split.sets}
        for gap in gaps.values():
            assert gap[:, columns].max() <= split.tolerance
        for key in done.candidates(name) - done.kept(name):
            assert max(gap[:, done.row[key]].max() for gap in gaps.values()) > split.tolerance


def test_removed_of_the_combination_is_the_union(done: Finished) -> None:
    for name, split in done.of(Pruned):
        gone = done.candidates(name) - done.kept(name)
        union = {
            key
            for s in split.sets
            for key in done.candidates(name)
            if (done.similarity(s)[:, done.row[key]] - done.limit(s)).max() > split.tolerance
        }
        assert gone == union


def test_rows_are_the_pool_and_the_reference_set(done: Finished) -> None:
    tables = [read_parquet(done.folder / f, ["key"]) for f in done.at.pool_tables()]
    pool = {key for table in tables for key in table["key"].to_pylist()}
    for name, split in done.cfg.splits.items():
        rows = done.splits[name]
        added = set(rows) - pool
        assert pool <= set(rows)
        reference = set(done.reference.keys)
        assert added == (reference if split.reference else set())
        if split.reference is True:
            assert all(rows[key]["kept"] for key in added), "the reference set is never pruned"


def test_near_and_far_are_ends_of_one_order(done: Finished) -> None:
    """Sizes that add up to the candidates part them; otherwise they meet as they should."""
    for (near, a), (far, b) in [
        (n, f) for n in done.of(Near) for f in done.of(Far)
        if n[1].sets == f[1].sets and f[1].combine == "max"
    ]:  # fmt: skip
        all_points, low, high = done.candidates(near), done.kept(near), done.kept(far)
        overlap = max(0, len(low) + len(high) - len(all_points))
        assert len(low & high) == overlap, (a, b)


def test_sized_splits_are_nested(done: Finished) -> None:
    for kind in (Near, Far, Rand):
        for (a, x), (b, y) in combinations(done.of(kind), 2):
            same = x.driving_sets() == y.driving_sets()
            same &= all(getattr(x, k, 0) == getattr(y, k, 0) for k in ("seed", "combine"))
            if same:
                small, large = sorted((done.kept(a), done.kept(b)), key=len)
                assert small <= large, (a, b)


def test_every_duplicate_has_a_mate_above_the_threshold(done: Finished) -> None:
    block = done.cfg.dedup
    dropped = 0
    for file in done.at.duplicates():
        for row in read_parquet(done.folder / file).to_pylist():
            if row["dropped"]:
                dropped += 1
                a, b = (done.pool.vectors[done.row[row[k]]] for k in ("key", "duplicate_of"))
                s = float(a.astype(np.float64) @ b.astype(np.float64))
                assert block.rule == "connected-components" or s == row["similarity"]
                assert row["similarity"] > block.threshold
                assert row["duplicate_of"] < row["key"]
    record = read_json(done.folder / done.at.dedup_record()[0])
    assert record["rejected"]["duplicate"] == dropped
    assert record["recall"]["n"] > 0, "the sample holds no duplicate; take a larger one"
    assert record["precision"]["value"] == 1.0


def test_neighbours_are_those_of_the_embeddings(done: Finished) -> None:
    files = sorted((done.folder / f"results/neighbours/{done.cfg.encoder}").glob("*/*.parquet"))
    files = [f for f in files if not f.stem.endswith(".density")]
    assert files
    for file in files:
        base, name = file.parent.name, file.stem
        points = done.reference if base == done.cfg.reference else done.pool
        mine = done.kept(base) if base in done.cfg.splits else set(points.keys)
        columns = [i for i, key in enumerate(points.keys) if key in mine]
        tests = done.tests[name]
        s = tests.vectors.astype(np.float64) @ points.vectors[columns].astype(np.float64).T
        near = read_parquet(file)
        first = near.filter(np.array(near["rank"]) == 0)
        found = dict(
            zip(first["test_key"].to_pylist(), first["similarity"].to_pylist(), strict=True)
        )
        assert found == dict(zip(tests.keys, s.max(1).tolist(), strict=True))
        density = read_parquet(file.with_suffix(".density.parquet")).to_pylist()
        row = {key: i for i, key in enumerate(tests.keys)}
        for entry in density[:: max(1, len(density) // 200)]:
            assert entry["count"] == (s[row[entry["test_key"]]] > entry["above"]).sum()
