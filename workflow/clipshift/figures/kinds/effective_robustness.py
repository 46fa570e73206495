"""Models of this study against a line of some of them, one panel per shifted test set.

Each run (a split, a model, a seed) is a point. The line is fitted to the runs of the baseline; rho
and its interval are as in `clipshift.evaluation.robustness.rho`. With several in-distribution sets
the panel shows the first of them, and no line, for there is none in a plane; the table holds rho.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import kind
from clipshift.figures.style import (
    COLOURS,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.config.causes import Subset, asked, evaluations
from clipshift.study.config.names import ConditionName, MeasuredSetName
from clipshift.study.config.robustness import RESERVED, Fitting
from clipshift.study.layout.figures import FigureBlock, Files, Study

LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from clipshift.evaluation.robustness.lines import Line
    from clipshift.evaluation.robustness.points import Accuracy, Points
    from clipshift.evaluation.views import Predictions
    from clipshift.study.layout.study import Layout

    # Condition -> measured set -> what each of its runs says.
    Seen = dict[str, dict[str, list[Predictions]]]

Rows = list[dict[str, Any]]
BASELINE = "baseline"
# The protocol of an evaluation that asked the model in its own way.
OWN = "own"


@kind(
    "effective_robustness",
    section="accuracy",
    caption="Effective robustness: accuracy under shift above what the line of the baseline runs "
    "says at the same accuracy in distribution, in percentage points; both axes are scaled so that "
    "the line is straight. Bars: 95 % Clopper-Pearson intervals over the test images; band: "
    "bootstrap over the baseline runs. A line of few runs is a weak one.",
    reserved=RESERVED,
)
class OwnRobustness(Fitting, FigureBlock):
    """Models of this study against a line of some of them: one panel per test set."""

    id: list[MeasuredSetName] = Field(
        min_length=1,
        description="Test sets in distribution; with several, the line has a slope for each.",
    )
    shifts: list[MeasuredSetName] = Field(min_length=1, description="Test sets under shift.")
    baseline: list[ConditionName] = Field(
        min_length=1,
        description="Splits whose models the line is fitted to: `split`, or `split-model` for a "
        "model other than the study's, or `split-model-head` (`causes.runs`). Each seed is a "
        "point.",
    )
    groups: dict[str, list[ConditionName]] = Field(
        min_length=1, description="Label -> splits (as above) whose models to compare with it."
    )

    @property
    def conditions(self) -> list[str]:
        """Every condition once: the baseline's, then those of the groups."""
        groups = [condition for group in self.groups.values() for condition in group]
        return list(dict.fromkeys([*self.baseline, *groups]))

    def files(self, at: Layout) -> Files:
        return {"runs": condition_rows(at, self.conditions, [*self.id, *self.shifts])}

    def study(self, at: Layout) -> dict[str, Any]:
        return {"subsets": at.cfg.causes.subsets}


def condition_rows(at: Layout, conditions: Iterable[str], sets: Collection[str]) -> Files:
    """Per condition, measured set and run its predictions.

    A set of fewer classes is a view of the whole one's.
    """
    from clipshift.study.layout.evaluation import Evaluations

    ev = Evaluations(at)
    controlled = dict(asked(at.cfg.causes))
    subsets = at.cfg.causes.subsets
    runs: Files = {}
    for name in conditions:
        split, _, model = name.partition("-")
        controlled_runs = evaluations(name, controlled[name]) if name in controlled else None
        names = controlled_runs or at.runs(split, model or None)
        runs[name] = {s: ev.set_rows(subsets[s].of if s in subsets else s, names) for s in sets}
    return runs


def seen(files: Files, subsets: Mapping[str, Subset]) -> Seen:
    """Per condition and measured set what its runs say; a set of fewer classes is a view."""
    from clipshift.evaluation.views import read, restricted

    def one(name: str, rows: str) -> Predictions:
        return restricted(Path(rows), subsets[name]) if name in subsets else read(Path(rows))

    return {
        condition: {name: [one(name, rows) for rows in paths] for name, paths in sets.items()}
        for condition, sets in files["runs"].items()
    }


def named(p: Predictions) -> str:
    """The run, with its head where that is not the model's own."""
    head, run = p.record["head"], str(p.record["run"])
    return run if head == OWN else f"{run}-{head}"


def measured(name: str, p: Predictions, level: float) -> Accuracy:
    """The accuracy of a run on a test set; its axis is the set with its classes."""
    from clipshift.evaluation.robustness.points import Axis, accuracy
    from clipshift.evaluation.views import measure

    axis = Axis(name, f"{len(p.classes)} classes: {', '.join(p.classes)}")
    return accuracy(axis, measure(p)["top1"], len(p.keys), level)


def points_of(block: OwnRobustness, runs: Seen, shift: str) -> Points:
    """Points of some conditions' runs on one shift, named by their runs."""
    from clipshift.evaluation.robustness.points import Points

    rows = {}
    for sets in runs.values():
        for i, p in enumerate(sets[shift]):
            x = [measured(name, sets[name][i], block.level) for name in block.id]
            rows[named(p)] = (named(p), x, measured(shift, p, block.level))
    return Points.of(list(rows.values()))


def numbers(block: OwnRobustness, runs: Seen) -> tuple[Rows, dict[str, Line]]:
    """Rows per shift, group and run (accuracies and rho in %), and the line of every shift."""
    from clipshift.evaluation.robustness.lines import fit
    from clipshift.evaluation.robustness.rho import effective_robustness

    rows: Rows = []
    lines = {}
    groups = {BASELINE: block.baseline, **block.groups}
    for shift in block.shifts:
        line = fit(
            points_of(block, {name: runs[name] for name in block.baseline}, shift),
            block.space,
            draws=block.draws,
            seed=block.seed,
            level=block.level,
        )
        lines[shift] = line
        piece = line.pieces[0]
        for group, names in groups.items():
            points = points_of(block, {name: runs[name] for name in names}, shift)
            for r in effective_robustness(line, points):
                rows.append(
                    {"shift": shift, "group": group, "run": r.model}
                    | {f"id_{n}": 100 * x for n, x in zip(block.id, r.x, strict=True)}
                    | r.percent
                    | {"extrapolated": r.extrapolated, "baseline_runs": len(piece.models)}
                    | {"slope": " ".join(f"{c:.4f}" for c in piece.coefficients[1:])}
                    | {"intercept": float(piece.coefficients[0]), "r2": piece.r2}
                    | {"spread": 100 * piece.spread}
                )
    return rows, lines


def draw(block: OwnRobustness, runs: Seen, lines: dict[str, Line], out: list[Path]) -> None:
    from clipshift.figures.lines import (
        ALONE,
        LOOKS,
        PANEL,
        Look,
        diagonal,
        draw_line,
        draw_points,
        limits,
        percent_ticks,
    )

    looks = {
        BASELINE: Look("o", COLOURS[0], size=4),
        **dict(zip(block.groups, LOOKS, strict=False)),
    }
    groups = {BASELINE: block.baseline, **block.groups}
    first = runs[block.baseline[0]]
    with house_style():
        figure, axes = panels(len(block.shifts), size=PANEL if len(block.shifts) > 1 else ALONE)
        for axis, shift in zip(axes, block.shifts, strict=True):
            drawn = {
                group: points_of(block, {name: runs[name] for name in names}, shift)
                for group, names in groups.items()
            }
            x = limits(block.space, [v for p in drawn.values() for v in (p.x_low, p.x_high)])
            y = limits(block.space, [v for p in drawn.values() for v in (p.y_low, p.y_high)])
            percent_ticks(axis, block.space, x, y)
            draw_line(axis, lines[shift], x, "line of the baseline, 95 % band")
            for group, points in drawn.items():
                draw_points(axis, points, block.space, looks[group], group, (x[0], y[0]))
            diagonal(axis)
            title(axis, shift, len(first[shift][0].keys))
        figure.supylabel("top-1 accuracy under shift, %", fontsize=9)
        n = len(first[block.id[0]][0].keys)
        label_below(figure, f"top-1 accuracy on {block.id[0]}, % (n = {n:,}; bars: 95 % CI)")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: OwnRobustness, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    runs = seen(files, study.subsets)
    rows, lines = numbers(block, runs)
    for shift, line in lines.items():
        piece = line.pieces[0]
        LOG.info(
            f"{shift}: slope {piece.coefficients[1:]}, intercept {piece.coefficients[0]:.3f}, R2 "
            f"{piece.r2:.3f}, {len(piece.models)} runs; not fitted: {dict(line.left_out)}"
        )
    write_csv(table, rows)
    draw(block, runs, lines, out)
