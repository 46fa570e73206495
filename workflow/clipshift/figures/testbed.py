"""Figures of published models: all of the testbed on one shift, or those of one claim.

Models on a shift are drawn by type. The sentence that the numbers support is computed from them.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.core.files import write_csv, write_text
from clipshift.core.step import step
from clipshift.evaluation.robustness.claims import (
    CLAIMS,
    Claim,
    Row,
    baseline_points,
    claim_rows,
    drawn_baseline,
    own_line,
    shown,
    signed,
)
from clipshift.evaluation.robustness.lines import Line
from clipshift.evaluation.robustness.points import Points
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, Shift
from clipshift.evaluation.robustness.sources import testbed
from clipshift.evaluation.robustness.spaces import forward
from clipshift.evaluation.robustness.testbed import compare, line_of
from clipshift.figures.lines import (
    BASELINE,
    BROWN,
    LOOKS,
    PANEL,
    Look,
    diagonal,
    draw_line,
    draw_points,
    limits,
    mark,
    percent_ticks,
)
from clipshift.figures.style import (
    COLOURS,
    GREY,
    RHO,
    house_style,
    label_below,
    legend_above,
    panels,
)
from clipshift.figures.style import save as save_figure
from clipshift.study.config.robustness import Robustness, Space

LOG = logging.getLogger(__name__)

# Type of model -> label and look, the most numerous first, so that it lies below.
TYPES: dict[str, tuple[str, Look]] = {
    "LOW_ACCURACY_CNN": ("low accuracy", Look(".", "#9a9a9a", size=3.5, bars=False)),
    "STANDARD": ("standard", Look("o", COLOURS[0], size=3.6, bars=False, alpha=0.8)),
    "ROBUST_INTV": ("robust intervention", Look("^", BROWN, size=4, bars=False)),
    "LP_ADV": ("adversarially robust", Look("v", BROWN, False, size=4, bars=False)),
    "MORE_DATA": ("more data", Look("s", COLOURS[2], size=3.6, bars=False)),
}
OTHER = ("other (nearest neighbours, forests, ...)", Look("x", GREY, size=4, bars=False))
CLIP = ("more data: CLIP zero-shot", Look("*", "black", size=9, bars=False))


def by_type(models: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Label -> which of the models, bool, in the order to draw them."""
    types = testbed().types
    labels = [
        CLIP[0] if m.endswith("_clip_zeroshot") else TYPES.get(types[m], OTHER)[0] for m in models
    ]
    order = [OTHER[0], *(label for label, _ in TYPES.values()), CLIP[0]]
    return {name: np.array([v == name for v in labels]) for name in order if name in labels}


def draw_shift(cfg: Robustness, shift: Shift, out: list[Path]) -> list[Row]:
    """All models of the testbed on one shift; rows: per type its models and mean rho."""
    points = testbed().points(shift, cfg.level)
    assert points is not None  # the table is part of the package
    line, _ = line_of(cfg, cfg.baseline, shift)
    rho = {r.model: 100 * r.rho for r in compare(line, points)}
    looks = dict([*TYPES.values(), OTHER, CLIP])
    space = cfg.space
    rows: list[Row] = []
    with house_style():
        figure, (axis,) = panels(1, size=(6.0, 3.1))
        x = limits(space, [points.x])
        y = limits(space, [points.y])
        for label, of_type in by_type(points.models).items():
            part = points.only(of_type)
            text = f"{label} ({len(part.models)})"
            draw_points(axis, part, space, looks[label], text, (x[0], y[0]))
            values = [rho[m] for m in part.models]
            rows.append(
                {"shift": shift.name, "baseline": cfg.baseline, "group": label}
                | {"models": len(values), "mean_rho": float(np.mean(values))}
                | {"lowest_rho": min(values), "highest_rho": max(values)}
            )
        draw_line(axis, line, x, f"line of {cfg.baseline} models")
        diagonal(axis)
        percent_ticks(axis, space, x, y)
        axis.set_xlabel(on_axis(shift))
        axis.set_ylabel(f"{short_title(shift)}, top-1 accuracy, %")
        handles, labels = axis.get_legend_handles_labels()
        # Points are drawn from the most numerous to the most interesting, and listed the other way.
        figure.legend(handles[::-1], labels[::-1], loc="outside right upper", fontsize=8)
        text = f"Top-1 accuracy of published models on {shift.named} against that on ImageNet."
        save_figure(figure, out, text)
    return rows


def on_axis(shift: Shift) -> str:
    """Label of a shift's in-distribution axis."""
    where = "" if shift.on == VAL else f", {shift.on.classes}"
    return f"ImageNet{where}, top-1 accuracy, %"


def shift_sentence(shift: Shift, rows: list[Row]) -> str:
    """What the testbed says of a shift: how far the types of models lie from the line."""
    named = [r for r in rows if r["group"] not in (OTHER[0], TYPES["LOW_ACCURACY_CNN"][0])]
    named.sort(key=lambda r: -r["mean_rho"])
    parts = [
        f"{r['group']} {signed(r['mean_rho'])} ({signed(r['lowest_rho'])} to "
        f"{signed(r['highest_rho'])}, {r['models']} models)"
        for r in named
    ]
    return (
        f"Of {sum(r['models'] for r in rows)} models on {shift.named}, those of the type "
        f'"{named[0]["group"]}" lie furthest above the line; mean rho (lowest to highest) by type: '
        f"{'; '.join(parts)}."
    )


def draw_claim(claim: Claim, cfg: Robustness, out: list[Path]) -> None:
    """One panel per shift: the baseline's models and line, and the groups of the claim."""
    baseline, space = drawn_baseline(claim, cfg), cfg.space
    with house_style():
        figure, axes = panels(len(claim.shifts), size=PANEL)
        for axis, shift in zip(axes, map(SHIFTS.__getitem__, claim.shifts), strict=True):
            groups = shown(claim, shift, cfg.level)
            behind = baseline_points(cfg, baseline, shift)
            x = limits(space, _xs(claim, groups, behind))
            behind = _within(behind, x, space)
            y = limits(space, [p.y for p in (*groups.values(), behind)])
            percent_ticks(axis, space, x, y)
            label = f"ImageNet models ({baseline})"
            draw_points(axis, behind, space, BASELINE, label, (x[0], y[0]))
            line = line_of(cfg, baseline, shift)[0]
            draw_line(axis, line, x, "their line, 95 % band")
            if claim_line := own_line(claim, groups, cfg):
                draw_line(axis, claim_line, x, claim.own_line, "black")
            _groups(axis, claim, groups, cfg, (x[0], y[0]))
            if claim.gap[0] == shift.name:
                _gap(axis, Points.joined(list(groups.values())), line, claim.gap[1], space)
            diagonal(axis)
            panel_title(axis, shift)
        figure.supylabel("top-1 accuracy under shift, %", fontsize=9)
        label_below(figure, "top-1 accuracy on ImageNet, % (bars: 95 % CI)")
        legend_above(figure, axes)
        text = "Top-1 accuracy of published models under shift against that on ImageNet: "
        save_figure(figure, out, text + ", ".join(group.label for group in claim.groups) + ".")


def short_title(shift: Shift) -> str:
    """A shift's title where there is little room."""
    return "mean of four" if shift.parts else shift.title


def panel_title(axis: Any, shift: Shift) -> None:
    """Name the shift above a panel and, where it has not all, its classes below."""
    axis.set_title(short_title(shift), fontsize=9)
    if shift.on != VAL:
        axis.set_xlabel(f"on {shift.on.classes.removeprefix('the ')}", fontsize=7)


def _xs(claim: Claim, groups: dict[str, Points], behind: Points) -> list[np.ndarray]:
    """What a panel has to show: an extended baseline goes further down than what is compared."""
    return [p.x for p in groups.values()] + ([] if claim.extended else [behind.x])


def _within(points: Points, ends: tuple[float, float], space: Space) -> Points:
    """The points inside the first axis of a panel."""
    place = forward(space, points.x[:, 0])
    return points.only((place > ends[0]) & (place < ends[1]))


def _gap(axis: Any, points: Points, line: Line, model: str, space: Space) -> None:
    """Name the distance of a model from the line."""
    one = points.only(np.array([m == model for m in points.models]))
    x, top, foot = (float(forward(space, v)[0]) for v in (one.x[:, 0], one.y, line.predict(one.x)))
    arrow = {"arrowstyle": "<->", "lw": 0.8, "shrinkA": 1, "shrinkB": 4}
    axis.annotate("", (x, top), (x, foot), arrowprops=arrow, zorder=3)
    middle = (x, (top + foot) / 2)
    axis.annotate(f"{RHO}", middle, (3, -3), textcoords="offset points", fontsize=9)


def _groups(
    axis: Any,
    claim: Claim,
    groups: dict[str, Points],
    cfg: Robustness,
    lowest: tuple[float, float],
) -> None:
    for group, look in zip(claim.groups, LOOKS, strict=False):
        if group.label in groups:
            points = groups[group.label]
            draw_points(axis, points, cfg.space, look, group.label, lowest)
            mark(axis, points, cfg.space, group.marks)
    places = {
        model: [float(forward(cfg.space, v)) for v in (points.x[i, 0], points.y[i])]
        for points in groups.values()
        for i, model in enumerate(points.models)
    }
    for one, other in claim.pairs:
        if one in places and other in places:
            arrow = {"arrowstyle": "->", "lw": 0.7, "color": GREY, "shrinkA": 3, "shrinkB": 3}
            axis.annotate("", places[other], places[one], arrowprops=arrow, zorder=3)


@step(version=3)
def figure(block: Robustness, what: str, table: Path, sentence: Path, out: list[Path]) -> None:
    """The figure of a shift or of a claim, its numbers, and the sentence that they support."""
    if what in SHIFTS:
        shift = SHIFTS[what]
        rows = draw_shift(block, shift, out)
        text = shift_sentence(shift, rows)
    else:
        claim = CLAIMS[what]
        rows = claim_rows(claim, block)
        text = claim.sentence([r for r in rows if r["baseline"] == drawn_baseline(claim, block)])
        draw_claim(claim, block, out)
    LOG.info(text)
    write_csv(table, rows)
    write_text(sentence, text + "\n")
