"""Intervals, summaries over seeds and the tables made of them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv, write_json
from clipshift.evaluation.by_domain import Condition, draw_means, interval
from clipshift.evaluation.summary import read_conditions
from clipshift.evaluation.views import correct_images, seeds_of
from clipshift.figures.tables import accuracy_rows, contrast_rows
from clipshift.stats.intervals import SeedVariance, clopper_pearson, lower_bound, paired_difference
from tests.unit.logits_case import right


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(0, 10, 0, 0.3085), (10, 10, 0.6915, 1), (5, 10, 0.1871, 0.8129), (81, 263, 0.2527, 0.3676)],
)
def test_clopper_pearson_known_values(correct: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.9, 0.95]))
def test_a_lower_bound_is_the_lower_end_of_the_wider_interval(
    n: int, share: float, confidence: float
) -> None:
    correct = round(share * n)
    low, _ = clopper_pearson(correct, n, 2 * confidence - 1)
    assert lower_bound(np.array([correct]), np.array([n]), confidence) == pytest.approx(low)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(n: int, share: float, level: float) -> None:
    correct = round(share * n)
    exact = binomtest(correct, n).proportion_ci(confidence_level=level, method="exact")
    assert clopper_pearson(correct, n, level) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_fractional_count_lies_between_its_neighbours() -> None:
    low, high = zip(*(clopper_pearson(c, 10) for c in (4, 4.5, 5)), strict=True)
    assert sorted(low) == list(low) and sorted(high) == list(high)


@pytest.mark.parametrize(("correct", "n"), [(-1, 10), (11, 10), (0, 0), (float("nan"), 10)])
def test_no_proportion_is_refused(correct: float, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        clopper_pearson(correct, n)


def hits(accuracy: float, seeds: int = 2, n: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, n)) < accuracy


def test_difference_of_equal_sides_covers_zero() -> None:
    mean, low, high = paired_difference(hits(0.5), hits(0.5))
    assert mean == 0 and low < 0 < high
    one = paired_difference(hits(0.5, seeds=1), hits(0.5, seeds=1))
    assert one == pytest.approx((0, -0.0065, 0.0065), abs=1e-4)  # 300 equal answers
    assert paired_difference(hits(1, 1, 1), hits(0, 1, 1)) == (
        1,
        pytest.approx(-0.852, abs=1e-3),
        1,
    )


def test_difference_has_the_sign_of_the_first_less_the_second() -> None:
    mean, low, high = paired_difference(hits(0.8), hits(0.4, seed=1))
    assert 0.15 < low < mean < high < 0.65
    assert mean == pytest.approx(hits(0.8).mean() - hits(0.4, seed=1).mean())
    other, _, top = paired_difference(hits(0.4, seed=1), hits(0.8))
    assert other == -mean and top < 0


def test_difference_is_paired() -> None:
    """Images that both get right or wrong carry no uncertainty."""
    a, b = hits(0.5, seeds=1), hits(0.5, seeds=1)
    b[0, :10] = ~b[0, :10]
    shuffled = np.random.default_rng(5).permutation(b.T).T
    width = [
        high - low for _, low, high in (paired_difference(a, b), paired_difference(a, shuffled))
    ]
    assert width[0] < width[1] / 2


def trained(
    rng: np.random.Generator, seeds: int, training: float, conditions: int = 2, sets: int = 1
) -> list[list[np.ndarray]]:
    """Per condition and set (S, 300) answers; images and trainings differ in how hard, how good.

    All conditions are equally good on average.
    """
    deviation = rng.normal(0, training, (conditions, seeds))
    answers: list[list[np.ndarray]] = [[] for _ in range(conditions)]
    for _ in range(sets):
        image = rng.normal(0, 2, 300)
        for condition, of_seeds in zip(answers, deviation, strict=True):
            own = image + rng.normal(0, 0.5, 300)  # a condition is good at images of its own
            chance = 1 / (1 + np.exp(-own - of_seeds[:, None]))
            condition.append(rng.random((seeds, 300)) < chance)
    return answers


@pytest.mark.parametrize("training", [0.05, 0.8], ids=["images dominate", "training dominates"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_of_differences_cover(seeds: int, training: float) -> None:
    rng = np.random.default_rng(seeds)
    hits = 0
    for _ in range(1000):
        (a,), (b,) = trained(rng, seeds, training)
        _, low, high = paired_difference(a, b)
        hits += low <= 0 <= high
    # 95 % and three standard errors; two seeds are cautious where training has hardly a part.
    assert 930 <= hits <= (990 if training < 0.1 else 970)


@pytest.mark.parametrize("training", [0.05, 0.8], ids=["images dominate", "training dominates"])
def test_intervals_of_domains_cover(training: float) -> None:
    """Differences of means over two sets, among four conditions of two seeds."""
    rng = np.random.default_rng(2)
    hits = 0
    for i in range(100):
        answers = trained(rng, 2, training, conditions=4, sets=2)
        conditions = {
            str(k): Condition(dict(zip("st", sets, strict=True)), {}, dict.fromkeys("st", "x"))
            for k, sets in enumerate(answers)
        }
        drawn = draw_means(conditions, "x", 300, i)
        low, high = interval(drawn[0] - drawn[1])
        hits += low <= 0 <= high
    assert 89 <= hits <= 99


def test_the_variance_of_training_is_that_of_a_table_by_hand() -> None:
    """Two seeds, four images; images right by chance are not taken for training."""
    table = np.array([[1, 1, 0, 0], [1, 0, 1, 0]])
    pooled = SeedVariance.pooled([[table], [table[:1]]])
    assert (pooled.total, pooled.freedom) == (0, 1)
    # Two images differ: residuals of +-1/2, four of them, over 3 degrees of freedom and 4 images.
    assert pooled.images == pytest.approx(4 * 0.25 / 3 / 4)
    assert not pooled.draw(np.random.default_rng(0), 50).any()
    apart = SeedVariance.pooled([[np.array([[1, 1, 1, 0], [1, 0, 0, 0]])]])
    assert apart.total == pytest.approx(0.125)
    assert SeedVariance.pooled([[table[:1]]]) == SeedVariance(0, 0, 0)


def test_sides_of_different_sizes_are_refused_and_of_different_seeds_are_not() -> None:
    with pytest.raises(ValueError, match="300 and 299 images"):
        paired_difference(hits(0.5), hits(0.5, n=299))
    assert paired_difference(hits(0.5, seeds=1), hits(0.5, seeds=3))[1] < 0


@pytest.fixture
def step_counts(tmp_path: Path) -> Path:
    write_json(tmp_path / "account.json", {"points_kept": 30, "candidates": 50, "out": 40})
    return tmp_path / "account.json"


def runs(folder: Path, split: str, *accuracies: float) -> list[str]:
    """Predictions of a split's runs on a set of 40 images."""
    return [
        str(right(folder / f"sketch/{split}-m-s{i}.parquet", hits(a, 1, 40, seed=i)[0], seed=i))
        for i, a in enumerate(accuracies)
    ]


def summary(folder: Path, step_counts: Path, split: str, *accuracies: float) -> dict[str, Any]:
    sets = {"sketch": runs(folder, split, *accuracies)}
    return read_conditions({split: {"counts": str(step_counts), "sets": sets}})[split]


def test_summary_of_two_seeds(tmp_path: Path, step_counts: Path) -> None:
    result = summary(tmp_path, step_counts, "near", 0.3, 0.6)
    entry = result["sets"]["sketch"]
    a, b = (hits(p, seeds=1, n=40, seed=i).mean() for i, p in enumerate((0.3, 0.6)))
    assert entry["top1"] == pytest.approx((a + b) / 2)
    assert entry["top1_of_seeds"] == {"0": a, "1": b}
    assert (entry["top1_low"], entry["top1_high"]) == clopper_pearson(entry["top1"] * 40, 40)
    assert (result["points_kept"], result["points_pruned"]) == (30, 20)
    assert result["runs"] == {f"near-m-s{s}": f"sha of near-m-s{s}" for s in (0, 1)}


def test_summary_of_perfect_seeds(tmp_path: Path, step_counts: Path) -> None:
    entry = summary(tmp_path, step_counts, "s", 1.0, 1.0, 1.0)["sets"]["sketch"]
    assert (entry["top1"], entry["top1_high"]) == (1, 1)


def test_runs_that_cannot_be_joined_are_refused(tmp_path: Path) -> None:
    one = right(tmp_path / "s-m-s0.parquet", hits(0.5, 1, 40)[0])
    other = right(tmp_path / "s-m-s1.parquet", hits(0.5, 1, 40)[0], samples_seen=99, seed=1)
    with pytest.raises(ClipshiftError, match=r"s-m-s1.*samples_seen is 99, but 100 in .*s-m-s0"):
        seeds_of([one, other])
    with pytest.raises(ClipshiftError, match=r"s-m-s2.*other images"):
        seeds_of([one, right(tmp_path / "s-m-s2.parquet", hits(0.5, 1, 41)[0], seed=2)])


def test_correctness_aligns_images_by_key(tmp_path: Path) -> None:
    side = hits(0.5, 1, 40)[0]
    paths = [str(right(tmp_path / f"s-m-s{seed}.parquet", side, seed=seed)) for seed in (0, 1)]
    keys, found = correct_images(paths)
    assert keys == sorted(keys)
    np.testing.assert_array_equal(found, [side, side])


SPLITS = (("far", 0.9), ("near", 0.2))
AT_CHANCE = (("far", 0.55), ("near", 0.3))


def test_tables(tmp_path: Path, step_counts: Path) -> None:
    results = [summary(tmp_path, step_counts, split, a, a) for split, a in SPLITS]
    write_csv(tmp_path / "accuracy.csv", accuracy_rows(results))
    rows = list(csv.DictReader((tmp_path / "accuracy.csv").open()))
    assert [(r["split"], r["test_set"], r["n"], r["seeds"]) for r in rows] == [
        ("far", "sketch", "40", "2"), ("near", "sketch", "40", "2"),
    ]  # fmt: skip
    assert float(rows[0]["top1"]) == pytest.approx(results[0]["sets"]["sketch"]["top1"], abs=1e-6)
    assert {r["images_trained_on"] for r in rows} == {"0"}
    seen = {"images": 7, "without": {"n": 33, "top1": 0.5}}
    marked = results[0] | {"sets": {"sketch": results[0]["sets"]["sketch"] | {"trained_on": seen}}}
    (row,) = accuracy_rows([marked])
    assert (row["images_trained_on"], row["n_without"], row["top1_without"]) == (7, 33, 0.5)
    files = {split: {"sketch": runs(tmp_path, split, a, a)} for split, a in SPLITS}
    (contrast,) = contrast_rows([("far", "near", "sketch")], files)
    assert contrast["difference"] == pytest.approx(
        float(rows[0]["top1"]) - float(rows[1]["top1"]), abs=1e-6
    )
    assert 0 < contrast["low"] < contrast["difference"] < contrast["high"]
    assert contrast["note"] == ""
    chance = {split: {"sketch": runs(tmp_path / "c", split, a)} for split, a in AT_CHANCE}
    (contrast,) = contrast_rows([("far", "near", "sketch")], chance)
    assert contrast["note"] == "neither split is above chance (50.0 %)"
    write_csv(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "\n"
