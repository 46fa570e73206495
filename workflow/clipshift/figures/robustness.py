"""Models against the line of the testbed, a user's own or a study's: one panel per shift."""

from collections.abc import Mapping
from pathlib import Path

from clipshift.evaluation.robustness.claims import baseline_points
from clipshift.evaluation.robustness.shifts import Shift
from clipshift.evaluation.robustness.sources import Table
from clipshift.evaluation.robustness.testbed import line_of
from clipshift.figures.lines import (
    ALONE,
    BASELINE,
    LOOKS,
    PANEL,
    Look,
    diagonal,
    draw_line,
    draw_points,
    limits,
    percent_ticks,
)
from clipshift.figures.style import house_style, label_below, legend_above, panels, save
from clipshift.figures.testbed import panel_title
from clipshift.study.config.robustness import Robustness

# More models than looks are drawn alike: a legend of dozens would cover the figure.
MANY = Look("D", "black", filled=False, size=4)


Groups = Mapping[str, tuple[Look, list[str]]]


def own_groups(table: Table) -> Groups:
    """Label -> look and models: each model by itself, many of them as one group."""
    models = sorted(table.values)
    if len(models) > len(LOOKS):
        return {f"your {len(models)} models": (MANY, models)}
    return {model: (look, [model]) for model, look in zip(models, LOOKS, strict=False)}


def draw(
    table: Table, groups: Groups, shifts: list[Shift], cfg: Robustness, baseline: str,
    out: list[Path], caption: str,
) -> None:  # fmt: skip
    """Draw the models of a table that have what each shift needs.

    Args:
        groups: label -> look and models of the table.
        baseline: the one of `cfg` whose models and line are drawn.
    """
    with house_style():
        figure, axes = panels(len(shifts), size=PANEL if len(shifts) > 1 else ALONE)
        for axis, shift in zip(axes, shifts, strict=True):
            points = table.points(shift, cfg.level)
            behind = baseline_points(cfg, baseline, shift)
            assert points is not None  # only such shifts are drawn
            x = limits(cfg.space, [points.x, behind.x])
            y = limits(cfg.space, [points.y, behind.y])
            percent_ticks(axis, cfg.space, x, y)
            corner = (x[0], y[0])
            label = f"ImageNet models ({baseline})"
            draw_points(axis, behind, cfg.space, BASELINE, label, corner)
            draw_line(axis, line_of(cfg, baseline, shift)[0], x, "their line, 95 % band")
            for label, (look, models) in groups.items():
                group_points = table.points(shift, cfg.level, models)
                if group_points is not None:
                    draw_points(axis, group_points, cfg.space, look, label, corner)
            diagonal(axis)
            panel_title(axis, shift)
        figure.supylabel("top-1 accuracy under shift, %", fontsize=9)
        label_below(figure, "top-1 accuracy on ImageNet, % (bars: 95 % CI)")
        legend_above(figure, axes)
        save(figure, out, caption)
