"""Seeds that a claim needs, against simulated studies."""

import numpy as np
import pytest

from clipshift.stats.intervals import paired_difference
from clipshift.stats.power import power, seeds_needed, smallest
from clipshift.study.config.load import load
from clipshift.study.planning.seeds import shown
from tests.conftest import ROOT


@pytest.mark.parametrize(("seeds", "training"), [(2, 0.02), (3, 0.02), (5, 0.005)])
def test_power_is_the_share_of_simulated_studies_that_show_the_difference(
    seeds: int, training: float
) -> None:
    """Images with a wide range of difficulty, so that seeds differ in few of them."""
    rng = np.random.default_rng(seeds)
    n, difference, shown, apart = 2000, 0.06, 0, []
    for _ in range(400):
        # An image is right where its ease exceeds that of the seed, which moves all together.
        ease = rng.random(n)
        own = (rng.random((2, n)) < 0.1) * rng.normal(0, 0.5, (2, n))  # of a condition
        levels = 0.5 + np.array([difference, 0])[:, None] + rng.normal(0, training, (2, seeds))
        a, b = (ease + own[i] < levels[i][:, None] for i in (0, 1))
        shown += paired_difference(a, b)[1] > 0
        apart.append((a.mean(0) - b.mean(0)).var())
    expected = power(difference, seeds, n, training, float(np.mean(apart)))
    # Estimated degrees of freedom vary, which helps at two seeds: the formula is cautious there.
    assert expected - 0.06 <= shown / 400 <= expected + 0.12


def test_seeds_and_the_smallest_difference_belong_together() -> None:
    needed = seeds_needed(0.03, 5000, 0.01, 0.2)
    assert needed is not None and needed > 2
    at, before = (smallest(s, 5000, 0.01, 0.2) for s in (needed, needed - 1))
    assert at is not None and before is not None and at <= 0.03 < before
    assert seeds_needed(0.01, 300, 0.001, 0.2) is None  # images alone are too few
    assert seeds_needed(0.3, 300, 0.001, 0.2) == 2


def test_a_plan_says_what_its_seeds_show() -> None:
    head, first, *_ = shown(load(ROOT / "config/laion400m.yaml"))
    assert head == (
        "test set", "images", "1 seed shows", "for 5 points", "for 2 points", "for 1 points"
    )  # fmt: skip
    assert first[:3] == ("imagenet_val", "50,000", "no difference")
    assert first[-1] == str(seeds_needed(0.01, 50_000, 0.01, 0.2))
    _, row, *_ = shown(load(ROOT / "config/mini.yaml"))
    least = smallest(2, 1000, 0.01, 0.2)
    assert least is not None and row[2] == f"{100 * least:.1f} points"
