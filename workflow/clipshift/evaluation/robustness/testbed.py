"""The lines of the testbed's models, and the table of all its models against them."""

import logging
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv, write_json
from clipshift.core.step import step
from clipshift.evaluation.robustness.lines import Line, fit
from clipshift.evaluation.robustness.points import Points
from clipshift.evaluation.robustness.rho import Rho, effective_robustness
from clipshift.evaluation.robustness.shifts import SHIFTS, Shift
from clipshift.evaluation.robustness.sources import testbed
from clipshift.study.config.robustness import Baseline, Robustness, Space

LOG = logging.getLogger(__name__)

Rows = list[dict[str, Any]]


def baseline_models(block: Baseline, shift: Shift) -> tuple[list[str], Counter[str]]:
    """Models of a baseline for one shift, and why others of its types are not among them.

    Raises:
        ClipshiftError: a type that no model of the testbed has.
    """
    table = testbed()
    known = set(table.types.values())
    if unknown := set(block.types) - known:
        raise ClipshiftError(
            f"robustness.baselines: {sorted(unknown)} are no types of the testbed; it has "
            f"{sorted(known)}"
        )
    overrides = block.min_id_of if shift.on == SHIFTS[shift.name].on else {}
    least = overrides.get(shift.name, block.min_id)  # type: ignore[call-overload]
    kept: list[str] = []
    rejected: Counter[str] = Counter()
    for model in table.values:
        if table.types[model] not in block.types:
            continue
        if word := next((w for w in block.without if w in model), None):
            rejected[f"{word!r} in its name"] += 1
        elif lacking := table.lacks(model, shift):
            rejected[f"no accuracy on {lacking[0]}"] += 1
        elif table.values[model][shift.on].value < least:
            rejected[f"less than {100 * least:g} % on {shift.on}"] += 1
        else:
            kept.append(model)
    return kept, rejected


def family(model: str) -> str:
    """The network of which a model of the testbed is an epoch; another model is its own family.

    >>> family("resnet18_50k_9_epochs"), family("resnet101_0_epochs"), family("resnet101")
    ('resnet18_50k', 'resnet101', 'resnet101')
    """
    return re.sub(r"_\d+_epochs$", "", model)


@cache
def _fitted(
    cfg: str, baseline: str, shift: Shift, space: Space | None, without: frozenset[str]
) -> tuple[Line, Counter[str]]:
    # Text, since arguments of a cached function must be hashable.
    block = Robustness.model_validate_json(cfg)
    models, rejected = baseline_models(block.baselines[baseline], shift)
    if kept_out := without & set(models):
        rejected["shown against the line"] = len(kept_out)
    points = testbed().points(shift, block.level, [m for m in models if m not in without])
    if points is None:
        raise ClipshiftError(
            f"robustness.baselines.{baseline}: no model is left for {shift.name}: {dict(rejected)}"
        )
    pivot = block.pivot.get(shift.name)  # type: ignore[call-overload]
    if pivot is not None and (pivot not in testbed().values or testbed().lacks(pivot, shift)):
        raise ClipshiftError(
            f"robustness.pivot.{shift.name}: {pivot!r} is no model of the testbed with an accuracy "
            f"on {shift.on}"
        )
    line = fit(
        points,
        space or block.space,
        None if pivot is None else testbed().values[pivot][shift.on].value,
        frozenset() if pivot is None else frozenset([pivot]),
        {model: family(model) for model in points.models},
        block.draws,
        block.seed,
        block.level,
    )
    return line, rejected + line.left_out


def line_of(
    cfg: Robustness,
    baseline: str,
    shift: Shift,
    space: Space | None = None,
    without: frozenset[str] = frozenset(),
) -> tuple[Line, Counter[str]]:
    """The line of a baseline for a shift, and the models of its types that it is not fitted to.

    Args:
        space: other than the configured one.
        without: models to leave out, because they are to be compared with the line.
    """
    return _fitted(cfg.model_dump_json(), baseline, shift, space, without)


def fit_rows(cfg: Robustness) -> Rows:
    """One row per shift, baseline, space and piece of the line."""
    rows = []
    for shift in SHIFTS.values():
        for baseline in cfg.baselines:
            for space in get_args(Space):
                line, left_out = line_of(cfg, baseline, shift, space)
                rows += line_rows(shift.name, baseline, line, left_out)
    return rows


def line_rows(shift: str, baseline: str, line: Line, left_out: Counter[str]) -> Rows:
    """One row per piece: its coefficients with intervals, R2, models, and their scatter."""
    rows = []
    tails = [(1 - line.level) / 2, (1 + line.level) / 2]
    for piece in line.pieces:
        low, high = np.quantile(piece.drawn, tails, axis=0)
        row: dict[str, Any] = {
            "shift": shift,
            "in_distribution": " + ".join(axis.name for axis in line.axes),
            "baseline": baseline,
            "space": line.space,
            "above": None if np.isinf(piece.low) else 100 * piece.low,
            "up_to": None if np.isinf(piece.high) else 100 * piece.high,
            "models": len(piece.models),
            "families": piece.families,
            "slope": " ".join(f"{c:.6f}" for c in piece.coefficients[1:]),
            "slope_low": " ".join(f"{c:.6f}" for c in low[1:]),
            "slope_high": " ".join(f"{c:.6f}" for c in high[1:]),
            "intercept": float(piece.coefficients[0]),
            "intercept_low": float(low[0]),
            "intercept_high": float(high[0]),
            "r2": piece.r2,
            "spread": 100 * piece.spread,
            "not_fitted": "; ".join(f"{k}: {v}" for k, v in sorted(left_out.items())),
        }
        rows.append(row)
    return rows


def model_rows(cfg: Robustness, step_counts: StepCounts) -> Rows:
    """One row per model of the testbed and shift, accuracies and rho in %."""
    rows = []
    table = testbed()
    for shift in SHIFTS.values():
        step_counts.came_in += len(table.values)
        line, _ = line_of(cfg, cfg.baseline, shift)
        rhos = compare(line, table.points(shift, cfg.level))
        step_counts.went_out += len(rhos)
        for model in table.values:
            if lacking := table.lacks(model, shift):
                step_counts.rejected[f"{shift.name}: no accuracy on {lacking[0]}"] += 1
        for r in rhos:
            rows.append(
                {"model": r.model, "model_type": table.types[r.model], "shift": shift.name}
                | {"id_accuracy": 100 * r.x[0], **r.percent}
            )
    step_counts.check()
    return rows


def compare(line: Line, points: Points | None) -> list[Rho]:
    """rho of the models that have what a line needs; none where no model has."""
    return [] if points is None else effective_robustness(line, points)


def printed(row: dict[str, Any]) -> str:
    """A line of the table of fits, for people."""
    piece = "" if row["above"] is None and row["up_to"] is None else " (piece)"
    return (
        f"{row['shift']:10} {row['baseline']:10} {row['space']:7}{piece} {row['models']:4} models "
        f"in {row['families']} families  "
        f"slope {row['slope']}  intercept {row['intercept']:.3f}  R2 {row['r2']:.3f}  "
        f"spread {row['spread']:.2f} points"
    )


@step(version=2)
def tables(block: Robustness, models: Path, fits: Path, counts: Path) -> None:
    """Tables of all models and of all fits, and how many models are in and out."""
    lines = fit_rows(block)
    step_counts = StepCounts("effective robustness", "testbed")
    rows = model_rows(block, step_counts)
    for line in lines:
        LOG.info(printed(line))
    write_csv(fits, lines)
    write_csv(models, rows)
    write_json(counts, step_counts.as_json())
