"""Effective robustness: lines, intervals, and the refusal to mix axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.lines import LEFT_OUT, Line, fit
from clipshift.evaluation.robustness.points import Accuracy, Axis, Points, accuracy, average
from clipshift.evaluation.robustness.rho import effective_robustness
from clipshift.evaluation.robustness.spaces import Space, forward, inverse

VAL = Axis("val", "1,000 classes")
SUBSET = Axis("val", "200 classes")
SHIFT = Axis("shift", "200 classes")
SPACES: list[Space] = ["logit", "probit", "linear"]
N = 10_000


def points(x: np.ndarray, y: np.ndarray, axis: Axis = VAL, n: int = N, prefix: str = "m") -> Points:
    """Points of (N,) or (N, K) accuracies in distribution and (N,) under shift."""
    x = x.reshape(len(y), -1)
    axes = [axis, *(Axis(f"second_{k}") for k in range(1, x.shape[1]))]
    return Points.of(
        (
            f"{prefix}{i:03d}",
            [accuracy(a, v, n) for a, v in zip(axes, row, strict=True)],
            accuracy(SHIFT, under, n),
        )
        for i, (row, under) in enumerate(zip(x, y, strict=True))
    )


def on_line(x: np.ndarray, intercept: float, slope: float, space: Space) -> np.ndarray:
    return inverse(space, intercept + slope * forward(space, x))


@pytest.mark.parametrize("space", SPACES)
@given(intercept=st.floats(-0.2, 0.0), slope=st.floats(0.5, 1.2))
def test_a_known_line_is_recovered(space: Space, intercept: float, slope: float) -> None:
    x = np.linspace(0.3, 0.8, 12)
    line = fit(points(x, on_line(x, intercept, slope, space)), space, draws=20)
    assert line.pieces[0].coefficients == pytest.approx([intercept, slope], abs=1e-8)
    assert line.pieces[0].r2 == pytest.approx(1)
    assert line.predict(np.array([[0.55]])) == pytest.approx(
        on_line(np.array([0.55]), intercept, slope, space)
    )


def noisy(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.4, 0.85, n)
    return x, inverse("logit", -1 + 0.9 * forward("logit", x) + rng.normal(0, 0.1, n))


@given(seed=st.integers(0, 50))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    x, y = noisy(seed)
    rows = [
        (f"m{i}", [accuracy(VAL, a, N)], accuracy(SHIFT, b, N))
        for i, (a, b) in enumerate(zip(x, y, strict=True))
    ]
    order = np.random.default_rng(seed).permutation(len(rows))
    one, other = Points.of(rows), Points.of([rows[i] for i in order])
    mine = [effective_robustness(fit(p, draws=50, seed=1), p) for p in (one, other)]
    assert mine[0] == mine[1]


@pytest.mark.parametrize("space", SPACES)
def test_numpy_agrees(space: Space) -> None:
    x, y = noisy(3)
    line = fit(points(x, y), space, draws=5)
    slope, intercept = np.polyfit(forward(space, x), forward(space, y), 1)
    assert line.pieces[0].coefficients == pytest.approx([intercept, slope])


def test_several_in_distribution_axes_agree_with_lstsq() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.9, (40, 2))
    z = -0.5 + forward("logit", x) @ np.array([0.7, 0.2])
    y = inverse("logit", z + rng.normal(0, 0.05, 40))
    line = fit(points(x, y), draws=50)
    design = np.column_stack([np.ones(40), forward("logit", x)])
    expected = np.linalg.lstsq(design, forward("logit", y), rcond=None)[0]
    assert line.pieces[0].coefficients == pytest.approx(expected)
    # A model that is good on the second axis only is no longer called robust by the first alone.
    odd = points(np.array([[0.4, 0.9]]), inverse("logit", np.array([-0.5])), prefix="odd")
    assert len(effective_robustness(line, odd)[0].x) == 2


def test_the_same_seed_gives_the_same_band_and_another_one_another() -> None:
    p, at = points(*noisy(5)), np.array([[0.5]])
    bands = [fit(p, draws=200, seed=s).band(at) for s in (0, 0, 1)]
    assert bands[0] == bands[1]
    assert bands[0] != bands[2]


def test_the_interval_of_rho_covers() -> None:
    """Models drawn on a known line, n images each: the interval of rho holds zero in 95 % or so."""
    rng = np.random.default_rng(7)
    n, hits = 400, []
    for _ in range(150):
        x = rng.uniform(0.4, 0.85, 25)
        y = on_line(x, -1.0, 0.9, "logit")
        drawn = [rng.binomial(n, v) / n for v in (x, y)]
        baseline = points(drawn[0], drawn[1], n=n)
        a = rng.uniform(0.45, 0.8, 4)
        b = on_line(a, -1.0, 0.9, "logit")
        mine = points(rng.binomial(n, a) / n, rng.binomial(n, b) / n, n=n, prefix="mine")
        found = effective_robustness(fit(baseline, draws=100), mine)
        hits += [r.low <= 0 <= r.high for r in found]
    assert 0.92 <= np.mean(hits) <= 0.995


def test_models_at_0_and_1_are_counted_and_still_have_a_rho() -> None:
    x, y = noisy(1)
    y[:2] = 0.0, 1.0
    p = points(x, y)
    line = fit(p, draws=50, leave_out=frozenset(["m002", "nobody"]))
    assert dict(line.left_out) == {LEFT_OUT: 1, "accuracy of 0 or 1, which no logit has": 2}
    assert len(line.pieces[0].models) == 27
    found = {r.model: r for r in effective_robustness(line, p)}
    assert found["m000"].rho == -found["m000"].predicted
    assert found["m000"].low < found["m000"].rho < found["m000"].high
    ends = points(np.array([0.0, 1.0]), np.array([0.0, 1.0]), prefix="end")
    for r in effective_robustness(line, ends):
        assert r.predicted in (0.0, 1.0)
        assert np.isfinite([r.low, r.rho, r.high]).all()
    assert not fit(p, "linear", draws=50).left_out


def test_full_and_subset_axes_do_not_mix() -> None:
    line = fit(points(*noisy(0)), draws=20)
    x, y = noisy(1, 3)
    with pytest.raises(ClipshiftError) as error:
        effective_robustness(line, points(x, y, axis=SUBSET, prefix="mine"))
    assert "val (1,000 classes)" in str(error.value)
    assert "val (200 classes)" in str(error.value)
    assert "mine000" in str(error.value)
    mixed = [
        (name, [accuracy(axis, 0.5, N)], accuracy(SHIFT, 0.4, N))
        for name, axis in (("a", VAL), ("b", SUBSET))
    ]
    with pytest.raises(ClipshiftError, match=r"'a' was measured on .*1,000.* but 'b' on .*200"):
        Points.of(mixed)


def test_a_model_twice_is_an_error() -> None:
    row = ("a", [accuracy(VAL, 0.5, N)], accuracy(SHIFT, 0.4, N))
    with pytest.raises(ClipshiftError, match="twice"):
        Points.of([row, row])


def test_two_pieces_meet_at_the_pivot() -> None:
    x = np.linspace(0.3, 0.9, 30)
    low, high = on_line(x, -3, 0.2, "logit"), on_line(x, -4, 2.0, "logit")
    line = fit(points(x, np.where(x <= 0.6, low, high)), pivot=0.6, draws=20)
    found = [piece.coefficients for piece in line.pieces]
    assert found[0] == pytest.approx([-3, 0.2])
    assert found[1] == pytest.approx([-4, 2.0])
    # The interval of a model just below the pivot stays on its own piece.
    beside = points(np.array([0.599]), np.array([0.1]), n=100, prefix="beside")
    rho = effective_robustness(line, beside)[0]
    assert rho.high - rho.low < 0.2


@pytest.mark.parametrize(
    ("x", "message"), [([0.5, 0.6], "at least 3"), ([0.5] * 5, "do not differ enough")]
)
def test_too_little_to_fit(x: list[float], message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        fit(points(np.array(x), np.linspace(0.2, 0.4, len(x))), draws=5)


def test_extrapolation_is_named() -> None:
    line: Line = fit(points(*noisy(0)), draws=20)
    assert line.extrapolates(np.array([[0.1], [0.6], [0.99]])).tolist() == [True, False, True]


def test_average_of_sets() -> None:
    axis = Axis("mean")
    one, other = accuracy(Axis("a"), 0.0, 50), accuracy(Axis("b"), 0.5, 50)
    both = average(axis, [one, other])
    assert isinstance(both, Accuracy)
    assert both.value == 0.25
    assert both.low == pytest.approx(0.25 - (0.5 - other.low) / 2)
    assert both.high > 0.25 + (one.high - one.value) / 2


def test_points_are_joined_in_the_order_of_names() -> None:
    one, other = points(*noisy(0, 3), prefix="z"), points(*noisy(1, 3), prefix="a")
    both = Points.joined([one, other])
    assert both.models == (*other.models, *one.models)
    assert both.y.tolist() == [*other.y, *one.y]
    assert both.x_high.tolist() == [*other.x_high.tolist(), *one.x_high.tolist()]
    with pytest.raises(ClipshiftError, match="different classes"):
        Points.joined([one, points(*noisy(1, 3), axis=SUBSET, prefix="a")])


def test_models_that_do_not_differ_under_shift_have_no_r2() -> None:
    line = fit(points(np.linspace(0.3, 0.6, 5), np.full(5, 0.4)), draws=20)
    assert np.isnan(line.pieces[0].r2)
    assert line.predict(np.array([[0.5]])) == pytest.approx(0.4)


def test_a_band_over_families_is_that_of_whole_families_drawn_by_hand() -> None:
    """Forty epochs of one network are one draw of the bootstrap, not forty."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(0.4, 0.8, 12), np.linspace(0.3, 0.7, 40)])
    scatter = np.concatenate([rng.normal(0, 0.15, 12), np.full(40, 0.2)])  # shared by the epochs
    y = inverse("logit", -1 + 0.9 * forward("logit", x) + scatter)
    p = points(x, y)
    families = dict.fromkeys(p.models[12:], "epochs")
    at = np.array([[0.45]])
    low, high = (float(end[0]) for end in fit(p, families=families, draws=4000).band(at))

    members = [[i] for i in range(12)] + [list(range(12, 52))]
    u, v = forward("logit", x), forward("logit", y)
    drawn = []
    for _ in range(4000):
        rows = [i for f in rng.integers(0, 13, 13) for i in members[f]]
        if len(set(rows)) > 1:
            slope, intercept = np.polyfit(u[rows], v[rows], 1)
            drawn.append(inverse("logit", intercept + slope * forward("logit", at[0]))[0])
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.004)
    alone = fit(p, draws=4000).band(at)
    assert high - low > 2 * float(alone[1][0] - alone[0][0])
