"""A user's own models against the line of the testbed: one panel per shift."""

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


def draw(table: Table, shifts: list[Shift], cfg: Robustness, out: list[Path]) -> None:
    """Draw the models of a table that have what each shift needs."""
    models = sorted(table.values)
    with house_style():
        figure, axes = panels(len(shifts), size=PANEL if len(shifts) > 1 else ALONE)
        for axis, shift in zip(axes, shifts, strict=True):
            points = table.points(
                shift, cfg.level, [m for m in models if not table.lacks(m, shift)]
            )
            behind = baseline_points(cfg, cfg.baseline, shift)
            assert points is not None  # only such shifts are drawn
            x = limits(cfg.space, [points.x, behind.x])
            y = limits(cfg.space, [points.y, behind.y])
            percent_ticks(axis, cfg.space, x, y)
            corner = (x[0], y[0])
            label = f"ImageNet models ({cfg.baseline})"
            draw_points(axis, behind, cfg.space, BASELINE, label, corner)
            draw_line(axis, line_of(cfg, cfg.baseline, shift)[0], x, "their line, 95 % band")
            if len(models) <= len(LOOKS):
                for model, look in zip(models, LOOKS, strict=False):
                    model_points = table.points(shift, cfg.level, [model])
                    if model_points is not None:
                        draw_points(axis, model_points, cfg.space, look, model, corner)
            else:
                text = f"your {len(models)} models"
                draw_points(axis, points, cfg.space, MANY, text, corner)
            diagonal(axis)
            panel_title(axis, shift)
        figure.supylabel("top-1 accuracy under shift, %", fontsize=9)
        label_below(figure, "top-1 accuracy on ImageNet, % (bars: 95 % CI)")
        legend_above(figure, axes)
        save(
            figure, out, "Models of a user against the line of ImageNet models, one panel a shift."
        )
