"""Models of this study against a line of some of them, one panel per shifted test set.

Each run (a split, a model, a seed) is a point. The line is fitted to the runs of the baseline; rho
and its interval are as in `clipshift.evaluation.robustness.rho`. With several in-distribution sets
the panel shows the first of them, and no line, for there is none in a plane; the table holds rho.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.evaluation.robustness.lines import Line, fit
from clipshift.evaluation.robustness.points import Accuracy, Axis, Points, accuracy
from clipshift.evaluation.robustness.rho import effective_robustness
from clipshift.evaluation.views import Predictions, measure, read, restricted
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
from clipshift.figures.style import (
    COLOURS,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.config.causes import Subset
from clipshift.study.config.robustness import OwnRobustness
from clipshift.study.layout.figures import Files, Study

Rows = list[dict[str, Any]]
# Arm -> measured set -> what each of its runs says.
Seen = dict[str, dict[str, list[Predictions]]]
BASELINE = "baseline"
# The head of an evaluation that asked the model in its own way.
OWN = "own"


def seen(files: Files, subsets: Mapping[str, Subset]) -> Seen:
    """Per arm and measured set what its runs say; a set of fewer classes is a view."""

    def one(name: str, rows: str) -> Predictions:
        return restricted(Path(rows), subsets[name]) if name in subsets else read(Path(rows))

    return {
        arm: {name: [one(name, rows) for rows in paths] for name, paths in sets.items()}
        for arm, sets in files["runs"].items()
    }


def measured(name: str, p: Predictions, level: float) -> Accuracy:
    """The accuracy of a run on a test set; its axis is the set with its classes."""
    axis = Axis(name, f"{len(p.classes)} classes: {', '.join(p.classes)}")
    return accuracy(axis, measure(p)["top1"], len(p.keys), level)


def points_of(block: OwnRobustness, arms: Seen, shift: str) -> Points:
    """Points of some arms' runs on one shift, named by their runs."""
    rows = {}
    for sets in arms.values():
        for i, p in enumerate(sets[shift]):
            x = [measured(name, sets[name][i], block.level) for name in block.id]
            asked = p.record["head"]
            name = p.record["run"] if asked == OWN else f"{p.record['run']}-{asked}"
            rows[name] = (name, x, measured(shift, p, block.level))
    return Points.of(list(rows.values()))


def numbers(block: OwnRobustness, runs: Seen) -> tuple[Rows, dict[str, Line]]:
    """Rows per shift, group and run (accuracies and rho in %), and the line of every shift."""
    rows: Rows = []
    lines = {}
    groups = {BASELINE: block.baseline, **block.groups}
    for shift in block.shifts:
        line = fit(
            points_of(block, {arm: runs[arm] for arm in block.baseline}, shift),
            block.space,
            draws=block.draws,
            seed=block.seed,
            level=block.level,
        )
        lines[shift] = line
        piece = line.pieces[0]
        for group, arms in groups.items():
            points = points_of(block, {arm: runs[arm] for arm in arms}, shift)
            for r in effective_robustness(line, points):
                rows.append(
                    {"shift": shift, "group": group, "run": r.model}
                    | {f"id_{n}": 100 * x for n, x in zip(block.id, r.x, strict=True)}
                    | {"shift_accuracy": 100 * r.y, "predicted": 100 * r.predicted}
                    | {"rho": 100 * r.rho, "rho_low": 100 * r.low, "rho_high": 100 * r.high}
                    | {"extrapolated": r.extrapolated, "baseline_runs": len(piece.models)}
                    | {"slope": " ".join(f"{c:.4f}" for c in piece.coefficients[1:])}
                    | {"intercept": float(piece.coefficients[0]), "r2": piece.r2}
                    | {"spread": 100 * piece.spread}
                )
    return rows, lines


def draw(block: OwnRobustness, runs: Seen, lines: dict[str, Line], out: list[Path]) -> None:
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
                group: points_of(block, {arm: runs[arm] for arm in arms}, shift)
                for group, arms in groups.items()
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
        label_below(figure, f"top-1 accuracy on {block.id[0]}, % (n = {n:,}; bars: 95 % interval)")
        legend_above(figure, axes)
        save(figure, out)


@step(version=3)
def figure(block: OwnRobustness, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    runs = seen(files, study.subsets)
    rows, lines = numbers(block, runs)
    for shift, line in lines.items():
        piece = line.pieces[0]
        print(
            f"{shift}: slope {piece.coefficients[1:]}, intercept {piece.coefficients[0]:.3f}, R2 "
            f"{piece.r2:.3f}, {len(piece.models)} runs; not fitted: {dict(line.left_out)}"
        )
    write_csv(table, rows)
    draw(block, runs, lines, out)
