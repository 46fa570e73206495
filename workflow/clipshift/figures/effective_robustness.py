"""Models of this study against a line of some of them, one panel per shifted test set.

Each run (a split, a model, a seed) is a point. The line is fitted to the runs of the baseline; rho
and its interval are as in `clipshift.robustness.rho`. With several in-distribution sets the panel
shows the first of them, and no line, for there is none in a plane; the table holds rho.
"""

from pathlib import Path
from typing import Any

from clipshift.config.robustness import OwnRobustness
from clipshift.errors import ClipshiftError, run
from clipshift.figures.command import arguments
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
from clipshift.files import read_json, write_csv
from clipshift.layout.figures import Files
from clipshift.robustness.lines import Line, fit
from clipshift.robustness.points import Accuracy, Axis, Points, accuracy
from clipshift.robustness.rho import effective_robustness

Rows = list[dict[str, Any]]
BASELINE = "baseline"
# The head of an evaluation that asked the model in its own way.
OWN = "own"


def measured(result: dict[str, Any], path: str, name: str, level: float) -> Accuracy:
    """The accuracy of a run on a test set; its axis is the set with its classes.

    Raises:
        ClipshiftError: the run was not evaluated on the set.
    """
    if name not in result["sets"]:
        raise ClipshiftError(f"{path} has no accuracy on {name!r}; delete it and run again")
    entry = result["sets"][name]
    axis = Axis(name, f"{len(entry['classes'])} classes: {', '.join(entry['classes'])}")
    return accuracy(axis, entry["top1"], entry["n"], level)


def points_of(block: OwnRobustness, runs: dict[str, list[str]], shift: str) -> Points:
    """Points of some arms' runs on one shift, named by their runs.

    Args:
        runs: arm -> the evaluation files of its runs.
    """
    rows = []
    for path in dict.fromkeys(path for paths in runs.values() for path in paths):
        result = read_json(Path(path))
        x = [measured(result, path, name, block.level) for name in block.id]
        asked = result.get("head", OWN)
        name = result["run"] if asked == OWN else f"{result['run']}-{asked}"
        rows.append((name, x, measured(result, path, shift, block.level)))
    return Points.of(rows)


def numbers(block: OwnRobustness, files: Files) -> tuple[Rows, dict[str, Line]]:
    """Rows per shift, group and run (accuracies and rho in %), and the line of every shift."""
    rows: Rows = []
    lines = {}
    groups = {BASELINE: block.baseline, **block.groups}
    for shift in block.shifts:
        runs = {arm: files["runs"][arm] for arm in block.baseline}
        line = fit(
            points_of(block, runs, shift),
            block.space,
            draws=block.draws,
            seed=block.seed,
            level=block.level,
        )
        lines[shift] = line
        piece = line.pieces[0]
        for group, arms in groups.items():
            points = points_of(block, {arm: files["runs"][arm] for arm in arms}, shift)
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


def draw(block: OwnRobustness, files: Files, lines: dict[str, Line], out: list[Path]) -> None:
    looks = {
        BASELINE: Look("o", COLOURS[0], size=4),
        **dict(zip(block.groups, LOOKS, strict=False)),
    }
    groups = {BASELINE: block.baseline, **block.groups}
    first = read_json(Path(files["runs"][block.baseline[0]][0]))
    with house_style():
        figure, axes = panels(len(block.shifts), size=PANEL if len(block.shifts) > 1 else ALONE)
        for axis, shift in zip(axes, block.shifts, strict=True):
            drawn = {
                group: points_of(block, {arm: files["runs"][arm] for arm in arms}, shift)
                for group, arms in groups.items()
            }
            x = limits(block.space, [v for p in drawn.values() for v in (p.x_low, p.x_high)])
            y = limits(block.space, [v for p in drawn.values() for v in (p.y_low, p.y_high)])
            percent_ticks(axis, block.space, x, y)
            draw_line(axis, lines[shift], x, "line of the baseline, 95 % band")
            for group, points in drawn.items():
                draw_points(axis, points, block.space, looks[group], group, (x[0], y[0]))
            diagonal(axis)
            title(axis, shift, first["sets"][shift]["n"])
        figure.supylabel("top-1 accuracy under shift, %", fontsize=9)
        n = first["sets"][block.id[0]]["n"]
        label_below(figure, f"top-1 accuracy on {block.id[0]}, % (n = {n:,}; bars: 95 % interval)")
        legend_above(figure, axes)
        save(figure, out)


def main() -> None:
    block, files, args = arguments(OwnRobustness, __doc__)
    rows, lines = numbers(block, files)
    for shift, line in lines.items():
        piece = line.pieces[0]
        print(
            f"{shift}: slope {piece.coefficients[1:]}, intercept {piece.coefficients[0]:.3f}, R2 "
            f"{piece.r2:.3f}, {len(piece.models)} runs; not fitted: {dict(line.left_out)}"
        )
    write_csv(args.csv, rows)
    draw(block, files, lines, args.out)


if __name__ == "__main__":
    run(main)
