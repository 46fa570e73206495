"""A study's own runs against a line of some of them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.shifts import SHIFTS
from clipshift.figures.kinds import effective_robustness, published_line
from clipshift.figures.kinds.effective_robustness import OwnRobustness
from clipshift.figures.kinds.published_line import PublishedLine
from clipshift.study.config.causes import Subset
from clipshift.study.config.figures import Figures
from clipshift.study.config.references import references
from clipshift.study.layout.figures import Study, figure_files
from clipshift.study.layout.study import Layout
from tests.conftest import ROOT
from tests.unit.logits_case import right

CLASSES = ["animal", "food"]
STUDY = Study(reference="reference")


def evaluation(
    folder: Path, run: str, classes: list[str] = CLASSES, **top1: float
) -> dict[str, str]:
    """Set -> predictions of a run that is right about some share of 400 images."""
    return {
        name: str(
            right(
                folder / f"{name}/{run}.parquet", np.arange(400) < round(400 * share), classes,
                seed=int(run[-1]),
            )
        )
        for name, share in top1.items()
    }  # fmt: skip


def conditions(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Three sizes with two seeds each on the line y = x / 2, and one split 20 points above."""
    runs = {
        f"size_{i}": [
            evaluation(folder, f"size_{i}-tiny-s{s}", val=x, photos=x, sketch=x / 2)
            for s, x in enumerate((0.3 + i / 10, 0.34 + i / 10))
        ]
        for i in range(3)
    }
    runs["more"] = [evaluation(folder, "more-tiny-s0", val=0.4, photos=0.6, sketch=0.4)]
    return {
        condition: {name: [one[name] for one in mine] for name in mine[0]}
        for condition, mine in runs.items()
    }


def block(**changes: Any) -> OwnRobustness:
    values = {
        "id": ["val"], "shifts": ["sketch"], "baseline": ["size_0", "size_1", "size_2"],
        "groups": {"more data": ["more"]}, "space": "linear", "draws": 100,
    }  # fmt: skip
    return OwnRobustness.model_validate(values | changes)


def drawn(tmp_path: Path, own: OwnRobustness) -> list[dict[str, str]]:
    files = {"runs": conditions(tmp_path / "eval")}
    out, table = tmp_path / "own.svg", tmp_path / "own.csv"
    effective_robustness.figure(own, files, STUDY, table, [out])
    assert out.stat().st_size > 5000
    with table.open() as stream:
        return list(csv.DictReader(stream))


def test_runs_above_a_line_of_the_studys_own(tmp_path: Path) -> None:
    rows = drawn(tmp_path, block())
    assert [r["group"] for r in rows].count("baseline") == 6
    (more,) = [r for r in rows if r["group"] == "more data"]
    assert float(more["rho"]) == pytest.approx(20, abs=1e-4)
    assert float(more["rho_low"]) > 10
    assert all(abs(float(r["rho"])) < 1e-4 for r in rows if r["group"] == "baseline")


def test_with_several_sets_in_distribution(tmp_path: Path) -> None:
    folder = tmp_path / "eval"
    with pytest.raises(ClipshiftError, match="do not differ enough"):  # val and photos are equal
        drawn(tmp_path, block(id=["val", "photos"]))
    evaluation(folder, "size_0-tiny-s0", val=0.3, photos=0.4, sketch=0.3)
    files = {"runs": conditions(folder)}
    evaluation(folder, "size_0-tiny-s0", val=0.3, photos=0.4, sketch=0.3)
    runs = effective_robustness.seen(files, {})
    points = effective_robustness.points_of(block(id=["val", "photos"]), runs, "sketch")
    assert points.x.shape == (7, 2)


def test_runs_with_other_classes_are_refused(tmp_path: Path) -> None:
    files = conditions(tmp_path)
    odd = evaluation(tmp_path, "odd-tiny-s0", ["animal", "tree"], val=0.4, sketch=0.4)
    files["more"] = {name: [*files["more"][name], odd[name]] for name in odd}
    runs = effective_robustness.seen({"runs": files}, {})
    with pytest.raises(ClipshiftError, match=r"val \(2 classes: animal, food\).*val \(2 classes"):
        effective_robustness.points_of(block(), runs, "sketch")


def test_a_set_of_fewer_classes_is_a_view(tmp_path: Path) -> None:
    three = evaluation(tmp_path, "more-tiny-s0", [*CLASSES, "tree"], val=0.4, sketch=0.4)
    subset = Subset(of="sketch", classes=CLASSES)
    sets = {"val": [three["val"]], "some": [three["sketch"]]}
    runs = effective_robustness.seen({"runs": {"more": sets}}, {"some": subset})
    assert runs["more"]["some"][0].classes == CLASSES
    assert len(runs["more"]["some"][0].keys) == 400


def test_files_of_an_arm_with_a_model_of_its_own() -> None:
    from clipshift.study.config.load import load

    cfg = load(ROOT / "config/test.yaml")
    runs = figure_files(Layout(cfg), "effective_robustness", "test_sets")["runs"]
    rows = "results/logits/test_sketch/test_far-nano-s0.parquet"
    assert runs["test_far-nano"]["test_sketch"] == [rows]
    assert next(iter(runs)) == "test_full"


def test_axes_of_the_published_line_are_those_of_its_shifts() -> None:
    on = published_line.axes()
    for name, needed in published_line.NEEDS.items():
        shift = SHIFTS[name]
        parts = [SHIFTS[part] for part in shift.parts or (name,)]
        assert [on[axis] for axis in needed] == [shift.on, *(part.axis for part in parts)]
        for axis in (axis for axis in needed if not shift.parts):
            assert published_line.CLASSES.get(axis, 1000) == shift.classes


def test_the_published_line_asks_for_the_sets_of_its_shifts() -> None:
    sets, groups = {"val": "val", "sketch": "sketch"}, {"new": ["new"]}
    given = {"sets": sets, "groups": groups}
    assert PublishedLine.model_validate(given | {"shifts": ["sketch"]}).baseline is None
    with pytest.raises(ValueError, match=r"`sets` lacks \['r', 'val_r'\]"):
        PublishedLine.model_validate(given | {"shifts": ["sketch", "r"]})
    given["sets"] = sets | {"v2": "v2"}
    with pytest.raises(ValueError, match=r"`sets` has \['sketch'\], which no shift needs"):
        PublishedLine.model_validate(given | {"shifts": ["v2"]})


def test_names_of_published_tables_are_taken() -> None:
    with pytest.raises(ValueError, match=r"\['testbed'\] name tables of published models"):
        Figures(effective_robustness={"testbed": block()})


def test_unknown_names_are_found() -> None:
    mentioned = {(kind, name) for _, kind, name in references(block(baseline=["size_0-other"]))}
    assert {("condition", "size_0-other"), ("measured set", "sketch")} <= mentioned
