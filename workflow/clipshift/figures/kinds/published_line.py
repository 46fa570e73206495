"""Models of this study against the line of published ImageNet models, one panel per shift.

The line is that of a baseline of the block `robustness`, fitted to the testbed's models. A study's
sets stand for the axes of the testbed; accuracies on other numbers of classes are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import kind
from clipshift.figures.kinds.effective_robustness import condition_rows, named, seen
from clipshift.study.config.names import BaselineName, ConditionName, MeasuredSetName
from clipshift.study.config.robustness import Robustness, ShiftName
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.evaluation.robustness.points import Axis
    from clipshift.evaluation.robustness.sources import Table
    from clipshift.figures.kinds.effective_robustness import Seen
    from clipshift.study.layout.study import Layout

AxisName = Literal[
    "val", "val_r", "val_a", "val_objectnet", "v2", "sketch", "r", "a", "objectnet"
]  # fmt: skip
# Shift -> the axes that its points need, the one in distribution first.
NEEDS: dict[ShiftName, tuple[AxisName, ...]] = {
    "v2": ("val", "v2"),
    "sketch": ("val", "sketch"),
    "r": ("val_r", "r"),
    "a": ("val_a", "a"),
    "objectnet": ("val_objectnet", "objectnet"),
    "average": ("val", "v2", "sketch", "r", "objectnet"),
}
# Classes among which the testbed's models chose, of the axes that have fewer than ImageNet.
CLASSES: dict[AxisName, int] = {
    "val_r": 200, "val_a": 200, "val_objectnet": 113, "r": 200, "a": 200, "objectnet": 113,
}  # fmt: skip


@kind(
    "published_line",
    section="accuracy",
    caption="Effective robustness against published ImageNet models (Taori et al. 2020): accuracy "
    "under shift above what their line says at the same accuracy on ImageNet, in percentage "
    "points. Bars: 95 % Clopper-Pearson intervals over the test images; band: bootstrap over the "
    "published models.",
)
class PublishedLine(FigureBlock):
    """Models of this study against the line of published ImageNet models."""

    sets: dict[AxisName, MeasuredSetName] = Field(
        description="Axis of the published models -> the set of this study that stands for it. "
        "`val`: ImageNet's validation set; `val_r`, `val_a`, `val_objectnet`: the same on the "
        "classes of R, A and ObjectNet (`causes.subsets`)."
    )
    shifts: list[ShiftName] = Field(
        min_length=1,
        description="Panels; `average`: the mean of V2, Sketch, R and ObjectNet against `val`.",
    )
    groups: dict[str, list[ConditionName]] = Field(
        min_length=1,
        max_length=6,
        description="Label -> splits whose models to compare, as in `effective_robustness`.",
    )
    baseline: BaselineName | None = Field(
        default=None,
        description="The baseline of `robustness.baselines` whose line is drawn (default: "
        "`robustness.extended`, for models of 20 to 60 %); the table has all of them.",
    )

    @model_validator(mode="after")
    def _has_what_its_shifts_need(self) -> PublishedLine:
        needed = {axis for shift in self.shifts for axis in NEEDS[shift]}
        if lacking := sorted(needed - self.sets.keys()):
            raise ValueError(f"`sets` lacks {lacking}, which the shifts need")
        if unused := sorted(self.sets.keys() - needed):
            raise ValueError(f"`sets` has {unused}, which no shift needs")
        return self

    def files(self, at: Layout) -> Files:
        conditions = [name for group in self.groups.values() for name in group]
        return {"runs": condition_rows(at, conditions, self.sets.values())}

    def study(self, at: Layout) -> dict[str, Any]:
        return {"subsets": at.cfg.causes.subsets, "robustness": at.cfg.robustness}


def axes() -> dict[AxisName, Axis]:
    """The testbed's axes by name."""
    from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, VAL_A, VAL_OBJECTNET, VAL_R

    own: dict[AxisName, Axis] = {
        "val": VAL, "val_r": VAL_R, "val_a": VAL_A, "val_objectnet": VAL_OBJECTNET,
    }  # fmt: skip
    return own | {n: SHIFTS[n].axis for n in ("v2", "sketch", "r", "a", "objectnet")}  # type: ignore[operator]


def measured(block: PublishedLine, runs: Seen) -> tuple[Table, dict[str, list[str]]]:
    """The runs as a table of models on the testbed's axes, and the runs of each group.

    Raises:
        ClipshiftError: a set has another number of classes than its axis.
    """
    from clipshift.evaluation.robustness.sources import Measured, Table
    from clipshift.evaluation.views import IMAGENET, measure

    table, groups = Table("study"), {}
    on = axes()
    for group, conditions in block.groups.items():
        models = []
        for condition in conditions:
            for axis, name in block.sets.items():
                for p in runs[condition][name]:
                    classes = CLASSES.get(axis, IMAGENET)
                    if len(p.classes) != classes:
                        raise ClipshiftError(
                            f"figures.published_line: sets.{axis}: {name!r} has {len(p.classes)} "
                            f"classes, and ImageNet models were measured on {classes}; name a set, "
                            "or a subset of one, with these"
                        )
                    model = named(p)
                    values = table.values.setdefault(model, {})
                    values[on[axis]] = Measured(measure(p)["top1"], len(p.keys))
                    models.append(model)
        groups[group] = list(dict.fromkeys(models))
    return table, groups


def rows(
    block: PublishedLine, cfg: Robustness, table: Table, groups: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """One row per shift, baseline, group and run; accuracies and rho in %."""
    from clipshift.evaluation.robustness.shifts import SHIFTS
    from clipshift.evaluation.robustness.testbed import compare, line_of

    records = []
    for shift in map(SHIFTS.__getitem__, block.shifts):
        for baseline in cfg.baselines:
            line, _ = line_of(cfg, baseline, shift)
            for group, models in groups.items():
                for r in compare(line, table.points(shift, cfg.level, models)):
                    records.append(
                        {"shift": shift.name, "in_distribution": shift.on.name}
                        | {"baseline": baseline, "group": group, "run": r.model}
                        | {"id_accuracy": 100 * r.x[0], **r.percent}
                        | {"extrapolated": r.extrapolated}
                        | {"baseline_models": sum(len(p.models) for p in line.pieces)}
                    )
    return records


@step(version=1)
def figure(block: PublishedLine, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.robustness.shifts import SHIFTS
    from clipshift.figures.lines import LOOKS
    from clipshift.figures.robustness import draw

    cfg = study.robustness
    assert cfg is not None  # it asks for it
    models, groups = measured(block, seen(files, study.subsets))
    write_csv(table, rows(block, cfg, models, groups))
    looks = {g: (look, groups[g]) for g, look in zip(groups, LOOKS, strict=False)}
    shifts = [SHIFTS[name] for name in block.shifts]
    draw(models, looks, shifts, cfg, block.baseline or cfg.extended, out, block.caption)
