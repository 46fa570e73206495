"""The engine against brute force, to the last bit, with every screen and either refinement."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshift.similarity.engine import block, screen
from clipshift.similarity.engine.queries import GROUP, ColumnSet
from clipshift.similarity.engine.scan import BadVector, Maxima, Scanner, best_over, scan
from tests.conftest import tied_vectors, unit

WAYS = [("int8", "compiled"), ("int8", "torch"), ("float32", "compiled"), ("float32", "torch"),
        ("none", "auto"), ("auto", "auto")]  # fmt: skip


def brute(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, M) similarities, summed one product at a time."""
    result = np.zeros((len(rows), len(columns)))
    for d in range(rows.shape[1]):
        result += np.outer(rows[:, d].astype(np.float64), columns[:, d].astype(np.float64))
    return result


def same(found: Maxima, s: np.ndarray, limits: np.ndarray) -> None:
    np.testing.assert_array_equal(found.value, s.max(1))
    np.testing.assert_array_equal(found.index, s.argmax(1))
    np.testing.assert_array_equal(found.margin, (s - limits).max(1))
    np.testing.assert_array_equal(found.margin_index, (s - limits).argmax(1))


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, list[ColumnSet]]:
    """Rows and sets of awkward sizes: one column, all duplicates, ties everywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.sampled_from([1, 2, 7, 33, 64]))
    handful = unit(rng.normal(size=(draw(st.integers(1, 40)), d)))
    rows = handful[rng.integers(0, len(handful), draw(st.integers(1, 90)))]
    sets = []
    for _ in range(draw(st.integers(1, 3))):
        m = draw(st.sampled_from([1, 2, GROUP - 1, GROUP, 2 * GROUP + 3]))
        vectors = handful[rng.integers(0, len(handful), m)]
        limits = draw(st.sampled_from(["none", "equal", "random", "similar"]))
        thresholds = {
            "none": None,
            "equal": np.full(m, 0.5),
            "random": rng.uniform(-1, 1, m),
            "similar": brute(vectors, handful[:1])[:, 0],
        }[limits]
        sets.append(ColumnSet(vectors, thresholds))
    return rows, sets


@pytest.mark.parametrize(("kind", "refinement"), WAYS)
@given(case=cases())
@settings(max_examples=40)
def test_equals_brute_force(case: Any, kind: Any, refinement: Any) -> None:
    rows, sets = case
    found, counts = scan(rows, sets, screen=kind, refinement=refinement)
    for maxima, columns in zip(found, sets, strict=True):
        limits = 0 if columns.thresholds is None else columns.thresholds
        same(maxima, brute(rows, columns.vectors), np.broadcast_to(limits, len(columns.vectors)))
    assert counts.pairs == len(rows) * sum(len(s.vectors) for s in sets)
    if kind == "none":
        assert counts.computed == counts.pairs


def clip_like(n: int, seed: int, d: int = 128) -> np.ndarray:
    """Unit vectors with a common mean, two outlying coordinates and a falling spectrum."""
    rng = np.random.default_rng(seed)
    mean = np.random.default_rng(99).standard_normal(d)
    mean[:2] *= 12
    x = rng.standard_normal((n, d)) * (1 + np.arange(d)) ** -0.5
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return unit(0.85 * x + 0.5 * mean / np.linalg.norm(mean))


@pytest.mark.parametrize(("kind", "refinement"), WAYS[:4])
def test_the_screen_decides_most_pairs_and_is_right(kind: Any, refinement: Any) -> None:
    rows, columns = clip_like(700, 0), clip_like(2500, 1)
    limits = np.random.default_rng(2).uniform(0.5, 0.9, 2500)
    sets = [ColumnSet(columns[:2000], limits[:2000]), ColumnSet(columns[2000:], limits[2000:])]
    found, counts = scan(rows, sets, screen=kind, refinement=refinement, workers=2)
    s = brute(rows, columns)
    same(found[0], s[:, :2000], limits[:2000])
    same(found[1], s[:, 2000:], limits[2000:])
    assert counts.computed < counts.pairs / 20


@pytest.mark.parametrize("k", [32, 64, 128])
def test_the_number_of_axes_moves_no_bit(k: int) -> None:
    rows, columns = clip_like(300, 3), clip_like(500, 4)
    found, _ = scan(rows, [ColumnSet(columns)], screen="int8", k=k)
    same(found[0], brute(rows, columns), np.zeros(500))


def test_bounds_hold_for_every_pair() -> None:
    """The proof's inequality, for both kinds of codes, on vectors that strain it."""
    hard = np.zeros((40, 128), np.float16)
    hard[np.arange(40), np.arange(40)] = 1  # all in one coordinate
    hard[20:, 64] = 1e-4
    rows, columns = (
        np.concatenate([clip_like(80, 5), hard]),
        np.concatenate([hard, clip_like(56, 6)]),
    )
    s = brute(rows, columns)
    x = torch.from_numpy(rows.astype(np.float32))
    for kind in ("int8", "float32"):
        for k in (32, 96, 128):
            p = screen.projection(screen.principal_axes(columns, rows), k)
            left = screen.encode_rows(x, torch.from_numpy(p.matrix.astype(np.float32)), p, kind)
            right = screen.encode_columns(columns, p, kind, 32)
            estimate = (left.codes.double() * left.scale[:, None].double()) @ (
                right.codes.double() * right.scale.repeat_interleave(32)[:, None].double()
            ).T
            width = (
                left.error.double()[:, None] * right.norm.double()
                + left.norm.double()[:, None] * right.error.double()
                + left.outside.double()[:, None] * right.outside.double()
            )
            assert (np.abs(s - estimate.numpy()) <= width.numpy() + screen.SLACK).all(), (kind, k)


def test_exact_at_real_width() -> None:
    """Order of summation and library do not move a bit of a 1280-d product."""
    rng = np.random.default_rng(0)
    rows, columns = unit(rng.normal(size=(50, 1280))), unit(rng.normal(size=(9, 1280)))
    left, right = (
        [[int(v) for v in vector.astype(np.float64) * 2**24] for vector in side]
        for side in (rows, columns)
    )
    exact = [[sum(a * b for a, b in zip(x, t, strict=True)) / 2**48 for t in right] for x in left]
    for kind, refinement in WAYS:
        found, _ = scan(rows, [ColumnSet(columns)], screen=kind, refinement=refinement)  # type: ignore[arg-type]
        same(found[0], np.array(exact), np.zeros(9))


def test_float32_rows_are_right_to_the_declared_rounding() -> None:
    rng = np.random.default_rng(1)
    rows, columns = (
        (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)
        for v in (rng.normal(size=(200, 96)), rng.normal(size=(300, 96)))
    )
    s = rows.astype(np.float64) @ columns.astype(np.float64).T
    for kind, refinement in WAYS:
        found, _ = scan(rows, [ColumnSet(columns)], screen=kind, refinement=refinement)  # type: ignore[arg-type]
        assert np.abs(found[0].value - s.max(1)).max() < 98 * 2**-53 * 1.01


def test_blocks_workers_and_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sets = clip_like(300, 7), [ColumnSet(clip_like(150, 8))]
    once, _ = scan(rows, sets, screen="int8")
    monkeypatch.setattr("clipshift.similarity.engine.scan.PIECE", 70)
    for size, workers in ((1, 1), (33, 2), (64, 3)):
        scanner = Scanner(sets, rows, len(rows), screen="int8")
        scanner.block = size
        pieces = list(scanner.scan(rows, workers))
        assert [p.start for p in pieces] == [0, 70, 140, 210, 280]
        for name in ("value", "index", "margin", "margin_index"):
            again = np.concatenate([getattr(p.maxima[0], name) for p in pieces])
            np.testing.assert_array_equal(again, getattr(once[0], name))


def test_memory_mapped_rows(tmp_path: Path) -> None:
    rows, sets = tied_vectors(0, 30), [ColumnSet(tied_vectors(1, 4))]
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    (a,), (b,) = scan(rows, sets)[0], scan(mapped, sets, screen="int8")[0]
    np.testing.assert_array_equal(a.margin, b.margin)


def test_out_of_memory_halves_the_block_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, sets = clip_like(200, 9), [ColumnSet(clip_like(100, 10))]
    once, _ = scan(rows, sets, screen="int8")
    real, sizes = block.scan_block, []

    def small(plan: Any, x: torch.Tensor, scratch: Any) -> Any:
        sizes.append(len(x))
        if len(x) > 64:
            raise torch.OutOfMemoryError("no memory for this block")
        return real(plan, x, scratch)

    monkeypatch.setattr("clipshift.similarity.engine.scan.scan_block", small)
    found, counts = scan(rows, sets, screen="int8", workers=1)
    np.testing.assert_array_equal(found[0].value, once[0].value)
    assert counts.pairs == 200 * 100
    assert max(sizes) == 200 and min(sizes) <= 64


@pytest.mark.parametrize("vnni", [True, False])
def test_a_machine_without_fast_or_exact_integer_products_uses_float32(
    monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    features = screen.binding.get_host_cpu_features() | {"avx512vnni": vnni}
    monkeypatch.setattr(screen.binding, "get_host_cpu_features", lambda: features)

    def saturating(rows: torch.Tensor, columns: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return out.copy_((rows.double() @ columns.double()).clamp(-32768, 32767).to(out.dtype))

    rows, sets = clip_like(100, 11), [ColumnSet(clip_like(100, 12))]
    exact = screen.integers_are_exact(torch.device("cpu"))
    assert Scanner(sets, rows, 10**9).kind == ("int8" if vnni and exact else "float32")
    monkeypatch.setattr(screen, "multiply", saturating)
    assert not screen.integers_are_exact(torch.device("cpu"))
    assert Scanner(sets, rows, 10**9).kind == "float32"


def test_parts_are_joined_and_ties_go_to_the_first() -> None:
    rows, columns = tied_vectors(3, 20, distinct=4), tied_vectors(3, 50, distinct=4)
    value, index = best_over(rows, [columns[:7], columns[:0], columns[7:]])
    s = brute(rows, columns)
    np.testing.assert_array_equal(value, s.max(1))
    np.testing.assert_array_equal(index, s.argmax(1))


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((3, 4), (2, 5)), ((3, 4), (0, 4)), ((3, 4), (4,))],
)
def test_refuses_what_cannot_be_compared(rows: Any, columns: Any) -> None:
    with pytest.raises(ValueError, match=r"dimension|nothing to compare"):
        scan(np.full(rows, 0.5, np.float16), [ColumnSet(np.full(columns, 0.5, np.float16))])


def test_no_rows_give_no_maxima() -> None:
    (found,), counts = scan(np.empty((0, 4), np.float16), [ColumnSet(tied_vectors(0, 3, 4))])
    assert len(found.value) == counts.pairs == 0


@pytest.mark.parametrize("kind", ["int8", "none"])
@pytest.mark.parametrize(
    ("value", "why"), [(np.nan, "NaN"), (np.inf, "NaN or infinite"), (0, "zero"), (2, "L2")]
)
def test_a_row_that_is_no_unit_vector_is_named(kind: Any, value: float, why: str) -> None:
    rows = clip_like(600, 13)
    rows[555] = value
    with pytest.raises(BadVector, match=why) as error:
        scan(rows, [ColumnSet(clip_like(10, 14))], screen=kind)
    assert error.value.row == 555
