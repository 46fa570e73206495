"""The command `clipshift robustness`: a user's own models against the line of the testbed.

    clipshift robustness --results FILE... --out DIR

writes `effective_robustness.csv` (rho of every model and shift with its interval, against each
baseline), the figure as svg and pdf, and `account.json` (what was read and what was refused, and
why).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshift.apps.robustness.results import read
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv, write_json
from clipshift.core.output_folder import locked
from clipshift.evaluation.robustness.points import Axis
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, Shift
from clipshift.evaluation.robustness.sources import (
    BROKEN_BELOW,
    Measured,
    Table,
    open_clip,
    size_of,
)
from clipshift.evaluation.robustness.testbed import compare, line_of
from clipshift.study.config.robustness import Robustness

Row = dict[str, Any]


@dataclass
class Compared:
    """What came out: rows of the table, shifts to draw, and refusals by model and shift."""

    rows: list[Row] = field(default_factory=list)
    shifts: list[Shift] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)


def measured_id(words: list[str], table: Table) -> None:
    """Add the accuracies of `--id` to the only model of a table.

    Raises:
        ClipshiftError: an axis that is none, a number that is none, or several models.
    """
    for word in words:
        name, _, text = word.partition("=")
        known = {shift.on.name: shift.on for shift in SHIFTS.values()}
        if name not in known:
            raise ClipshiftError(f"--id {word}: {name!r} is not one of {sorted(known)}")
        axis = known[name]
        if len(table.values) > 1:
            raise ClipshiftError(
                f"--id {word}: the files hold {len(table.values)} models; give each its own file, "
                "with one run for each"
            )
        value = _given(text, f"--id {word}")
        (accuracies,) = table.values.values()
        if axis in accuracies and accuracies[axis].value != value:
            raise ClipshiftError(f"--id {word}: the files say {accuracies[axis].value} on {axis}")
        accuracies[axis] = Measured(value, size_of(axis))


def _given(text: str, where: str) -> float:
    """An accuracy of `--id`: a percentage with its sign, or above 1 without; else a fraction."""
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise ClipshiftError(f"{where}: {text!r} is no accuracy") from None
    if not percent and text.strip() == "1":
        raise ClipshiftError(f"{where}: 1 may be 1 % or 100 %; write 1% or 100%")
    value = number / 100 if percent or number > 1 else number
    if not BROKEN_BELOW <= value <= 1:
        raise ClipshiftError(
            f"{where}: {text!r} is no accuracy of a model, which is between "
            f"{100 * BROKEN_BELOW:g}% and 100%"
        )
    return value


def published_id(table: Table) -> dict[str, float]:
    """Fill in the ImageNet accuracy of models that open_clip's own table names.

    Returns:
        the models that were filled in, and with what.
    """
    filled = {}
    known = open_clip().values
    for model, accuracies in table.values.items():
        if VAL not in accuracies and model in known:
            accuracies[VAL] = known[model][VAL]
            filled[model] = accuracies[VAL].value
    return filled


def compare_all(table: Table, cfg: Robustness, full: bool) -> Compared:
    """Every model on every shift that it has, against every baseline."""
    compared = Compared()
    for standard in SHIFTS.values():
        shift = standard.on_full() if full else standard
        ready = [m for m in table.values if not table.lacks(m, shift)]
        for model in table.values:
            if model not in ready:
                compared.refused += _refusal(table, model, shift)
        points = table.points(shift, cfg.level, ready)
        if points is None:
            continue
        compared.shifts.append(shift)
        for baseline in cfg.baselines:
            for r in compare(line_of(cfg, baseline, shift)[0], points):
                compared.rows.append(
                    {"model": r.model, "shift": shift.name, "in_distribution": shift.on.name}
                    | {"baseline": baseline}
                    | {"id_accuracy": 100 * r.x[0], **r.percent}
                    | {"extrapolated": r.extrapolated}
                )
    return compared


def _refusal(table: Table, model: str, shift: Shift) -> list[dict[str, str]]:
    """Why a shift that was measured has no rho; none where it was not measured."""
    lacking = table.lacks(model, shift)
    if shift.parts or shift.axis in lacking:
        return []
    return [{"model": model, "shift": shift.name, "why": why(table, model, shift, lacking[0])}]


def why(table: Table, model: str, shift: Shift, lacking: Axis) -> str:
    """The refusal of a shift, with its remedy."""
    if lacking == VAL:
        return (
            "no accuracy on ImageNet's validation set: add its result (CLIP_benchmark: "
            "`--dataset imagenet1k`), or give it as `--id val=63.3%`"
        )
    known = "only all 1,000 classes are known" if VAL in table.values[model] else "nothing is known"
    return (
        f"the line of {shift.title} is on {lacking}, and of ImageNet {known}: accuracies on "
        f"different classes do not mix. Measure ImageNet's validation set with the logits of "
        f"these classes only and give it as `--id {lacking.name}=88%` (or as a data set of that "
        "name), or take `--axis full`: the line, too, against all 1,000 classes"
    )


def robustness(
    results: list[Path], out: Path, accuracies: list[str], cfg: Robustness, full: bool
) -> str:
    """The command; returns what to print.

    Args:
        accuracies: `AXIS=ACCURACY`, of the only model of the results.
        full: R, A and ObjectNet against all of ImageNet, not against their own classes.

    Raises:
        ClipshiftError: nothing can be compared; says what is missing.
    """
    table = read(results)
    measured_id(accuracies, table)
    filled = published_id(table)
    compared = compare_all(table, cfg, full)
    if not compared.rows:
        measured = {m: [a.name for a in v] for m, v in table.values.items()}
        raise ClipshiftError(
            "no model has both an in-distribution and a shifted accuracy. "
            + (
                "; ".join(_refusals(compared.refused))
                or f"Add results on a shifted set; there is {measured}"
            )
        )
    from clipshift.figures.robustness import draw, own_groups

    with locked(out):
        write_csv(out / "effective_robustness.csv", compared.rows)
        outputs = [out / f"effective_robustness.{kind}" for kind in ("svg", "pdf")]
        caption = "Models of a user against the line of ImageNet models, one panel a shift."
        groups = own_groups(table)
        draw(table, groups, compared.shifts, cfg, cfg.baseline, outputs, caption)
        step_counts = table.step_counts.as_json() | {"imagenet_from_open_clip": filled}
        write_json(out / "account.json", step_counts | {"refused": compared.refused})
    lines = [_printed(r) for r in compared.rows if r["baseline"] == cfg.baseline]
    lines += [
        f"{m}: ImageNet {100 * v:.1f} % from open_clip's own table" for m, v in filled.items()
    ]
    lines += [f"refused: {text}" for text in _refusals(compared.refused)]
    lines += [f"not used: {count} x {r}" for r, count in table.step_counts.rejected.items()]
    return "\n".join([*lines, f"wrote {out}/effective_robustness.csv, .svg, .pdf"])


def _refusals(refused: list[dict[str, str]]) -> list[str]:
    """Refusals for people: each reason once, with its models."""
    models: dict[tuple[str, str], list[str]] = {}
    for r in refused:
        models.setdefault((r["shift"], r["why"]), []).append(r["model"])
    return [
        f"{SHIFTS[shift].title} for {names[0]}"
        + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        + f": {reason}"
        for (shift, reason), names in models.items()
    ]


def _printed(row: Row) -> str:
    text = (
        f"{row['model']}, {SHIFTS[row['shift']].title}: rho {row['rho']:+.1f} points "
        f"({row['rho_low']:+.1f} to {row['rho_high']:+.1f}); {row['shift_accuracy']:.1f} % where "
        f"the line says {row['predicted']:.1f} % at {row['id_accuracy']:.1f} % "
        f"({row['in_distribution']})"
    )
    if row["extrapolated"]:
        text += f"; outside the models of the line `{row['baseline']}`"
    return text
