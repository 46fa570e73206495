"""Neighbours of test images against brute force, for any cut of the files."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshift.core.files import write_parquet
from clipshift.similarity.embeddings import Embeddings
from clipshift.similarity.neighbours import Neighbours, kept_rows
from tests.conftest import embeddings, tied_vectors

GRID = [-0.2, 0.4, 0.9]


def run(pool: Embeddings, tests: Embeddings, k: int, parts: list[np.ndarray], keep: Any) -> Any:
    found = Neighbours(len(tests.keys), k, GRID)
    for rows in parts:
        part = Embeddings(pool.vectors[rows], [pool.keys[i] for i in rows])
        found.add(part, tests, keep[rows], "cpu")
    return found.tables(tests.keys)


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 5), st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_equals_brute_force_for_any_cut(seed: int, k: int, cut: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    pool = Embeddings(tied_vectors(seed, n, 7), [f"p{i:02d}" for i in rng.permutation(n)])
    tests = embeddings("t", tied_vectors(seed + 1, 4, 7))
    keep = rng.random(n) < 0.8
    # Rows of a shard come in the order of keys, shards in any order.
    parts = [
        np.array(sorted(rows, key=pool.keys.__getitem__), dtype=int)
        for rows in np.array_split(rng.permutation(n), cut)
    ]
    near, density = run(pool, tests, k, parts, keep)
    s = tests.vectors.astype(np.float64) @ pool.vectors.astype(np.float64).T
    rows = []
    for i, test in enumerate(tests.keys):
        order = sorted(np.flatnonzero(keep), key=lambda j: (-s[i, j], pool.keys[j]))[:k]
        rows += [
            {"test_key": test, "rank": r, "key": pool.keys[j], "similarity": s[i, j]}
            for r, j in enumerate(order)
        ]
    assert near.to_pylist() == rows
    counts = [(t, g, int((s[i, keep] > g).sum())) for i, t in enumerate(tests.keys) for g in GRID]
    assert [tuple(r.values()) for r in density.to_pylist()] == counts


def test_nothing_kept_leaves_no_neighbour() -> None:
    pool, tests = (embeddings(n, tied_vectors(0, 5)) for n in "pt")
    near, density = run(pool, tests, 3, [np.arange(5)], np.zeros(5, dtype=bool))
    assert len(near) == 0
    assert density["count"].to_pylist() == [0] * len(tests.keys) * len(GRID)


def test_a_split_says_who_counts(tmp_path: Path) -> None:
    pool = embeddings("p", tied_vectors(0, 6))
    keys = sorted(pool.keys)
    kept = [i % 2 == 0 for i in range(6)]
    # Rows of other shards and of the reference set lie around.
    table = {"key": ["a", *keys, "zz"], "kept": [True, *kept, True]}
    write_parquet(tmp_path / "s.parquet", pa.table(table))
    found = dict(zip(pool.keys, kept_rows(pool, tmp_path / "s.parquet"), strict=True))
    assert found == dict(zip(keys, kept, strict=True))


def test_keys_are_kept_as_they_are(tmp_path: Path) -> None:
    """Also with zeros at their end, which text of numpy loses, and far longer than the others."""
    pool = Embeddings(tied_vectors(0, 3), ["a", "a\0", "b" * 100_000])
    tests = embeddings("t", tied_vectors(1, 2))
    near, _ = run(pool, tests, 3, [np.arange(3)], np.ones(3, dtype=bool))
    assert sorted(near["key"].to_pylist()) == sorted(pool.keys * 2)
    table = {"key": ["a\0"], "kept": [True]}
    write_parquet(tmp_path / "s.parquet", pa.table(table))
    assert kept_rows(pool, tmp_path / "s.parquet").tolist() == [False, True, False]


@pytest.mark.parametrize("kept", [[False] * 3, [True] * 3])
def test_a_split_of_all_or_none(tmp_path: Path, kept: list[bool]) -> None:
    pool = embeddings("p", tied_vectors(0, 3))
    write_parquet(tmp_path / "s.parquet", pa.table({"key": sorted(pool.keys), "kept": kept}))
    assert kept_rows(pool, tmp_path / "s.parquet").tolist() == kept
