"""Similarities, margins and neighbours against brute force, to the last bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshift.core.errors import ClipshiftError
from clipshift.similarity import margins
from clipshift.similarity.blocks import nearest
from clipshift.similarity.embeddings import Embeddings
from tests.conftest import embeddings, shuffled, tied_vectors, unit


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool, tests and reference of awkward sizes, drawn from one handful of vectors."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    handful = unit(rng.normal(size=(draw(st.integers(1, 6)), draw(st.integers(1, 9)))))
    sizes = (draw(st.integers(1, 30)), draw(st.integers(1, 7)), draw(st.integers(1, 9)))
    pool, tests, reference = (handful[rng.integers(0, len(handful), n)] for n in sizes)
    return pool, tests, reference


def brute(pool: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """(N, M) similarities, summed one product at a time."""
    result = np.zeros((len(pool), len(tests)))
    for d in range(pool.shape[1]):
        result += np.outer(pool[:, d].astype(np.float64), tests[:, d].astype(np.float64))
    return result


def tables(pool: Embeddings, tests: Embeddings, reference: Embeddings) -> tuple[Any, Any]:
    thresholds = margins.reference_table(reference, tests)
    return thresholds, margins.shard_table(pool, tests, thresholds)


@given(cases(), st.integers(0, 99))
@settings(max_examples=40)
def test_tables_do_not_depend_on_the_order_of_rows(case: Any, seed: int) -> None:
    pool, tests, reference = (embeddings(n, v) for n, v in zip("ptr", case, strict=True))
    first = tables(pool, tests, reference)
    again = tables(shuffled(pool, seed), shuffled(tests, seed + 1), shuffled(reference, seed + 2))
    assert all(a.equals(b) for a, b in zip(first, again, strict=True))


@given(cases())
@settings(max_examples=40)
def test_ties_go_to_the_lowest_key(case: Any) -> None:
    pool, tests, reference = (embeddings(n, v) for n, v in zip("ptr", case, strict=True))
    thresholds, scored = tables(pool, tests, reference)
    limits = np.array(thresholds["similarity"])
    s = brute(pool.vectors[np.argsort(pool.keys)], tests.vectors[np.argsort(tests.keys)])
    test_keys, pool_keys = sorted(tests.keys), sorted(pool.keys)
    for line, entry in zip(s, scored.to_pylist(), strict=True):
        assert entry["nearest_test_key"] == min(np.array(test_keys)[line == line.max()])
        gap = line - limits
        assert entry["margin_test_key"] == min(np.array(test_keys)[gap == gap.max()])
    assert scored["key"].to_pylist() == pool_keys
    r = brute(reference.vectors, tests.vectors[np.argsort(tests.keys)])
    for column, entry in zip(r.T, thresholds.to_pylist(), strict=True):
        assert entry["nearest_key"] == min(np.array(reference.keys)[column == column.max()])


@given(cases())
@settings(max_examples=60)
def test_stored_margin_is_exact(case: Any) -> None:
    pool, tests, reference = (embeddings(n, v) for n, v in zip("ptr", case, strict=True))
    _, scored = tables(pool, tests, reference)
    order = np.argsort(pool.keys)
    limits = brute(reference.vectors, tests.vectors).max(0)
    exact = (brute(pool.vectors[order], tests.vectors) - limits).max(1)
    np.testing.assert_array_equal(np.array(scored["margin"]), exact)


def test_smallest_possible_margin_survives() -> None:
    """Two similarities that differ by 2^-48 give a margin of 2^-48, not 0."""
    tiny = 2.0**-24
    tests = Embeddings(np.array([[1, tiny]], np.float16), ["t"])
    reference = Embeddings(np.array([[1, 0]], np.float16), ["r"])
    pool = Embeddings(np.array([[1, tiny], [1, 0], [1, -tiny]], np.float16), ["a", "b", "c"])
    _, scored = tables(pool, tests, reference)
    assert scored["margin"].to_pylist() == [2.0**-48, 0.0, -(2.0**-48)]


@given(cases())
@settings(max_examples=40)
def test_copy_of_a_reference_image_is_never_above_the_limit(case: Any) -> None:
    """Its margin is 0 where it is some test image's nearest reference, else below."""
    _, tests, reference = (embeddings(n, v) for n, v in zip("ptr", case, strict=True))
    copies = Embeddings(reference.vectors, [f"p{k}" for k in reference.keys])
    thresholds, scored = tables(copies, tests, reference)
    margin = {r["key"]: r["margin"] for r in scored.to_pylist()}
    assert max(margin.values()) == 0
    assert all(margin[f"p{key}"] == 0 for key in thresholds["nearest_key"].to_pylist())


def test_thresholds_of_another_test_set_are_refused() -> None:
    pool, tests, other = (embeddings(n, tied_vectors(0, 5)) for n in ("p", "t", "u"))
    with pytest.raises(ClipshiftError, match="other test images"):
        margins.shard_table(pool, tests, margins.reference_table(pool, other))


@given(cases(), st.integers(1, 5), st.integers(1, 4000), st.integers(0, 99))
@settings(max_examples=60)
def test_nearest_equals_brute_force_for_any_block(
    case: Any, k: int, block_bytes: int, seed: int
) -> None:
    pool, tests, _ = case
    keep = np.random.default_rng(seed).random(len(pool)) < 0.7
    grid = [-0.5, 0.0, 0.3, 0.9]
    similarity, row, count = nearest(pool, tests, k, grid, keep, block_bytes=block_bytes)
    s = brute(pool, tests)
    for i in range(len(tests)):
        order = sorted(np.flatnonzero(keep), key=lambda j: (-s[j, i], j))[:k]
        missing = k - len(order)
        assert row[i].tolist() == [*order, *[-1] * missing]
        assert similarity[i].tolist() == [*s[order, i], *[-np.inf] * missing]
        assert count[i].tolist() == [(s[keep, i] > g).sum() for g in grid]
