"""All pairs within one array against brute force: the engine of the de-duplication."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshift.similarity.engine import self_join
from clipshift.similarity.engine.queries import Shape
from clipshift.similarity.engine.self_join import Earlier
from tests.conftest import tied_vectors
from tests.unit.test_engine import WAYS, brute, clip_like


def check(
    vectors: np.ndarray, engine: Earlier, floor: float, listed: np.ndarray, **how: Any
) -> None:
    found: list[Any] = []
    value, index = engine.find(
        vectors, lambda *p: found.extend(zip(*p, strict=True)), floor, listed, **how
    )
    s = brute(vectors, vectors)
    late = np.arange(len(s))[None] >= np.arange(len(s))[:, None]
    s[late] = -np.inf
    np.testing.assert_array_equal(value, s.max(1))
    np.testing.assert_array_equal(index, np.where(s.max(1) == -np.inf, -1, s.argmax(1)))
    i, j = np.nonzero((s > floor) & listed[:, None] & listed[None])
    assert sorted((int(a), int(b), float(c)) for a, b, c in found) == sorted(
        zip(i.tolist(), j.tolist(), s[i, j].tolist(), strict=True)
    )


@pytest.mark.parametrize(("kind", "refinement"), WAYS)
@given(
    st.integers(0, 999), st.integers(1, 300), st.sampled_from([2, 9, 64]), st.integers(1, 60),
    st.floats(-1, 1), st.sampled_from([17, 64, 1000]),
)  # fmt: skip
@settings(max_examples=25)
def test_equals_brute_force(
    kind: Any, refinement: Any, seed: int, n: int, d: int, distinct: int, floor: float, chunk: int
) -> None:
    vectors = tied_vectors(seed, n, d, distinct)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_join, "CPU", Shape(block=32, tile=128, strip=32))
        patch.setattr(self_join, "PLAIN", 50)
        engine = Earlier(vectors, screen=kind, refinement=refinement)
        check(vectors, engine, floor, np.arange(n) % 3 != 1, chunk=chunk)


@pytest.mark.parametrize(("kind", "refinement"), WAYS[:4])
def test_larger_than_a_tile(kind: Any, refinement: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_join, "CPU", Shape(block=64, tile=256, strip=64))
    vectors = clip_like(1100, 0)
    vectors[700:720] = vectors[100:120]
    engine = Earlier(vectors, screen=kind, refinement=refinement)
    check(vectors, engine, 0.8, np.ones(len(vectors), dtype=bool), chunk=500)


def test_more_pairs_than_expected_find_room() -> None:
    vectors = np.repeat(clip_like(2, 1), 150, axis=0)
    check(vectors, Earlier(vectors, screen="int8"), 0.1, np.ones(300, dtype=bool))
