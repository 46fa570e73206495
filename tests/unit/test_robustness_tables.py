"""Effective robustness of published models: the numbers that the literature expects."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import pytest

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness import sources
from clipshift.evaluation.robustness.claims import CLAIMS, FOUR, claim_rows, drawn_baseline, shown
from clipshift.evaluation.robustness.points import Points
from clipshift.evaluation.robustness.rho import effective_robustness
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, VAL_R
from clipshift.evaluation.robustness.sources import BROKEN, open_clip, size_of, timm
from clipshift.evaluation.robustness.spaces import forward
from clipshift.evaluation.robustness.testbed import baseline_models, fit_rows, line_of, model_rows
from clipshift.figures.lines import BASELINE, LOOKS, limits, percent_ticks
from clipshift.figures.style import house_style, panels
from clipshift.figures.testbed import CLIP, OTHER, TYPES
from clipshift.study.config.robustness import Robustness, ShiftName, Space
from clipshift.study.layout.robustness import CLAIMS as NAMED
from clipshift.study.layout.robustness import PUBLISHED_FIGURES

CFG = Robustness(draws=200)
COLUMNS = [
    *("model", "model_type", "shift", "id_accuracy", "shift_accuracy"),
    *("predicted", "rho", "rho_low", "rho_high"),
]


@pytest.fixture(scope="module")
def table() -> list[dict[str, Any]]:
    return model_rows(CFG, StepCounts("test", "testbed"))


def rho(table: list[dict[str, Any]], model: str, shift: str) -> float:
    (row,) = [r for r in table if r["model"] == model and r["shift"] == shift]
    assert row["rho_low"] < row["rho"] < row["rho_high"]
    assert row["rho"] == pytest.approx(row["shift_accuracy"] - row["predicted"])
    value: float = row["rho"]
    return value


@pytest.mark.parametrize(
    ("shift", "expected"), [("v2", 6), ("sketch", 23), ("r", 33), ("objectnet", 18)]
)
def test_clip_rn50_zero_shot(table: list[dict[str, Any]], shift: str, expected: float) -> None:
    assert rho(table, "resnet50_clip_zeroshot", shift) == pytest.approx(expected, abs=0.75)
    low = CFG.model_copy(update={"baseline": "low"})
    again = model_rows(low, StepCounts("test", "testbed"))
    assert rho(again, "resnet50_clip_zeroshot", shift) == pytest.approx(expected, abs=0.75)


@pytest.mark.parametrize("shift", FOUR)
def test_subsampled_resnets_move_along_the_line(table: list[dict[str, Any]], shift: str) -> None:
    for n in (2, 4, 8, 16, 32):
        model = f"resnet50_imagenet_subsample_1_of_{n}_batch64_original_images"
        assert abs(rho(table, model, shift)) < 2.5


@pytest.mark.parametrize("shift", FOUR)
def test_self_supervised_resnets_lie_on_the_line(table: list[dict[str, Any]], shift: str) -> None:
    for model in ("simclrv2_linear_probe_tf_port", "simclrv2_finetuned_100pct_tf_port", "simsiam"):
        assert abs(rho(table, f"resnet50_{model}", shift)) < 3
    # SwAV lies below it, by up to 5 points on renditions: no gain either.
    assert -5.5 < rho(table, "resnet50_swav", shift) < 0
    assert sum(rho(table, "resnet50_swav", s) for s in FOUR) / 4 == pytest.approx(-3, abs=0.3)


def test_adversarially_robust_models_lie_above_the_line_of_renditions(
    table: list[dict[str, Any]],
) -> None:
    """A trap: an l_p-robust model is no baseline; its rho on R is that of an intervention."""
    values = [r["rho"] for r in table if r["model_type"] == "LP_ADV" and r["shift"] == "r"]
    assert sum(values) / len(values) == pytest.approx(14, abs=1)


def test_table_has_every_model_and_accounts_for_the_rest(table: list[dict[str, Any]]) -> None:
    assert list(table[0]) == COLUMNS
    per_shift = Counter(r["shift"] for r in table)
    assert per_shift == dict(zip(SHIFTS, (335, 335, 329, 335, 335, 329), strict=True))
    assert len({r["model"] for r in table}) == 335
    step_counts = StepCounts("test", "testbed")
    model_rows(CFG, step_counts)
    assert step_counts.came_in == 6 * 338
    assert sum(step_counts.rejected.values()) == 6 * 338 - len(table)
    assert step_counts.rejected[f"r: no accuracy on {VAL_R}"] == 9


def test_every_fit_is_reported() -> None:
    rows = fit_rows(CFG)
    assert len(rows) == 2 * 3 * (6 + 1)  # baselines, spaces, shifts, the second piece of A
    main = {
        r["shift"]: r for r in rows
        if r["baseline"] == "standard" and r["space"] == "logit" and not r["up_to"]
    }  # fmt: skip
    assert main["v2"]["r2"] > 0.99
    assert float(main["v2"]["slope"]) == pytest.approx(0.923, abs=0.001)
    assert main["v2"]["intercept"] == pytest.approx(-0.498, abs=0.001)
    assert all(r["r2"] > 0.85 for s, r in main.items())


def test_baseline_models() -> None:
    kept, rejected = baseline_models(CFG.baselines["standard"], SHIFTS["r"])
    assert len(kept) == 80
    assert sum(rejected.values()) + len(kept) == 87  # the testbed's standard models
    assert rejected == {"'aws' in its name": 1, "'batch64' in its name": 1,
                        f"no accuracy on {VAL_R}": 5}  # fmt: skip
    assert not any(w in m for m in kept for w in ("aws", "batch64", "subsample"))
    low, _ = baseline_models(CFG.baselines["low"], SHIFTS["r"])
    assert set(kept) < set(low)


def test_imagenet_a_has_two_pieces_without_resnet50() -> None:
    line, _ = line_of(CFG, "standard", SHIFTS["a"])
    pivot = sources.testbed().values["resnet50"][SHIFTS["a"].on].value
    assert [p.high for p in line.pieces] == [pivot, float("inf")]
    assert not any("resnet50" in p.models for p in line.pieces)
    assert pivot == pytest.approx(0.9186, abs=1e-4)
    full, _ = line_of(CFG, "standard", SHIFTS["a"].on_full())
    assert full.pieces[0].high == pytest.approx(0.7613, abs=1e-4)


def test_a_line_on_own_classes_refuses_full_validation_points() -> None:
    line, _ = line_of(CFG, "standard", SHIFTS["r"])
    points = sources.testbed().points(SHIFTS["r"].on_full(), 0.95)
    assert points is not None
    with pytest.raises(ClipshiftError) as error:
        effective_robustness(line, points)
    assert str(VAL) in str(error.value)
    assert str(VAL_R) in str(error.value)


def test_percentages_are_those_of_the_sizes_that_the_table_is_said_to_have() -> None:
    for values in sources.testbed().values.values():
        for axis, (value, n) in values.items():
            assert value * n == pytest.approx(round(value * n), abs=0.01), axis


def test_the_broken_row_is_rejected_with_a_count() -> None:
    table = open_clip()
    assert table.step_counts.rejected == {BROKEN: 1}
    assert len(table.values) == 120
    assert not any("coca_ViT-B-32 mscoco" in model for model in table.values)
    assert min(v[VAL].value for v in table.values.values()) > 0.02


def test_timm_measures_the_class_subsets() -> None:
    ours, theirs = sources.testbed().values["resnet50"], timm().values["resnet50.tv_in1k @224"]
    for axis in theirs:
        assert theirs[axis].value == pytest.approx(ours[axis].value, abs=0.003), axis
        assert theirs[axis].n == size_of(axis)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_its_sentence(name: str) -> None:
    claim = CLAIMS[name]
    rows = claim_rows(claim, CFG)
    assert {r["baseline"] for r in rows} >= set(CFG.baselines)
    drawn = [r for r in rows if r["baseline"] == drawn_baseline(claim, CFG)]
    sentence = claim.sentence(drawn)
    assert sentence.endswith(".")
    assert "nan" not in sentence
    # The sentence is made of the numbers: others give another one.
    changed = [r | {"rho": r["rho"] + 1, "rho_low": 0.0} for r in drawn]
    assert claim.sentence(changed) != sentence
    for shift in claim.shifts:
        assert all(isinstance(p, Points) for p in shown(claim, SHIFTS[shift], 0.95).values())


def test_self_supervised_models_are_compared_with_a_line_without_them() -> None:
    rows = claim_rows(CLAIMS["self_supervised"], CFG)
    both = {
        b: [r["rho"] for r in rows if r["baseline"] == b and r["model"] == "resnet50_swav"]
        for b in ("standard", "standard, without those shown")
    }
    assert both["standard"] != both["standard, without those shown"]
    assert both["standard"] == pytest.approx(both["standard, without those shown"], abs=0.5)


def test_the_layout_knows_the_claims() -> None:
    assert set(NAMED) == set(CLAIMS)
    assert set(get_args(ShiftName)) == set(SHIFTS)
    assert set(PUBLISHED_FIGURES) == {*SHIFTS, *CLAIMS}


def test_a_wrong_configuration_is_explained() -> None:
    with pytest.raises(ClipshiftError, match=r"\['ODD'\] are no types of the testbed"):
        odd = CFG.baselines["low"].model_copy(update={"types": ["ODD"]})
        baseline_models(odd, SHIFTS["v2"])
    with pytest.raises(ClipshiftError, match=r"pivot\.a: 'nobody'"):
        line_of(CFG.model_copy(update={"pivot": {"a": "nobody"}}), "low", SHIFTS["a"])


def test_figures_and_table_are_written(tmp_path: Path) -> None:
    from clipshift.evaluation.robustness import testbed as tables
    from clipshift.figures import testbed as figures

    made = []
    for name in ("a", "fine_tuned"):
        out = [tmp_path / f"{name}.{kind}" for kind in ("svg", "pdf")]
        numbers, sentence = (tmp_path / f"{name}.{kind}" for kind in ("csv", "txt"))
        figures.figure(CFG, name, numbers, sentence, out)
        made.append({f: f.read_bytes() for f in out})
        figures.figure(CFG, name, numbers, sentence, out)
        assert made[-1] == {f: f.read_bytes() for f in out}, "the same inputs, the same bytes"
        assert b"<image" not in out[0].read_bytes()  # vectors only
        assert sentence.read_text().endswith(".\n")
    out = tmp_path / "all.csv"
    tables.tables(CFG, out, tmp_path / "fits.csv", tmp_path / "account.json")
    with out.open() as stream:
        assert csv.DictReader(stream).fieldnames == COLUMNS


def test_groups_differ_without_colour() -> None:
    shapes = [(look.marker, look.filled) for look in (*LOOKS, BASELINE)]
    assert len(set(shapes)) == len(shapes)
    shapes = [(look.marker, look.filled) for _, look in (*TYPES.values(), OTHER, CLIP)]
    assert len(set(shapes)) == len(shapes)
    for claim in CLAIMS.values():
        assert len(claim.groups) <= len(LOOKS)


@pytest.mark.parametrize("space", get_args(Space))
@pytest.mark.parametrize("ends", [(0.001, 0.95), (0.60, 0.63), (0.3, 0.9)])
def test_ticks_are_percentages_apart(space: Space, ends: tuple[float, float]) -> None:
    with house_style():
        figure, (axis,) = panels(1)
        span = limits(space, [np.array(ends)])
        percent_ticks(axis, space, span, span)
        places = np.sort(axis.get_xticks())
        labels = [float(label.get_text()) for label in axis.get_xticklabels()]
        assert len(places) >= 2
        assert np.diff(places).min() >= 0.1 * (span[1] - span[0])
        assert forward(space, np.array(labels) / 100) == pytest.approx(axis.get_xticks())
        plt.close(figure)
