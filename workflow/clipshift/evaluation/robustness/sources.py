"""Published accuracies of real models (`data/reference/`), as tables of typed accuracies."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.points import Accuracy, Axis, Points, accuracy, average
from clipshift.evaluation.robustness.shifts import (
    SHIFTS,
    SIZES,
    VAL,
    VAL_A,
    VAL_OBJECTNET,
    VAL_R,
    Shift,
)

# The testbed's ObjectNet: its percentages are those of 18,514 images.
TESTBED_OBJECTNET = 18_514
# An ImageNet accuracy below is that of a broken evaluation or model (chance: 0.1 %): one row of
# open_clip's table has 0.8 % where its sister has 63 %.
BROKEN_BELOW = 0.02
BROKEN = f"less than {100 * BROKEN_BELOW:.0f} % on ImageNet: broken"

TESTBED = {
    VAL: "val",
    VAL_R: "val-on-imagenet-r-classes",
    VAL_A: "val-on-imagenet-a-classes",
    VAL_OBJECTNET: "val-on-objectnet-classes",
    SHIFTS["v2"].axis: "imagenetv2-matched-frequency-format-val",
    SHIFTS["sketch"].axis: "imagenet-sketch",
    SHIFTS["r"].axis: "imagenet-r",
    SHIFTS["a"].axis: "imagenet-a",
    SHIFTS["objectnet"].axis: "objectnet-1.0-beta",
}
OPEN_CLIP = {
    VAL: "ImageNet 1k",
    SHIFTS["v2"].axis: "ImageNet v2",
    SHIFTS["sketch"].axis: "ImageNet Sketch",
    SHIFTS["r"].axis: "ImageNet-R",
    SHIFTS["a"].axis: "ImageNet-A",
    SHIFTS["objectnet"].axis: "ObjectNet",
}
TIMM = {
    VAL: "imagenet",
    VAL_R: "imagenet_r_clean",
    VAL_A: "imagenet_a_clean",
    SHIFTS["v2"].axis: "imagenetv2_matched_frequency",
    SHIFTS["sketch"].axis: "sketch",
    SHIFTS["r"].axis: "imagenet_r",
    SHIFTS["a"].axis: "imagenet_a",
}


class Measured(NamedTuple):
    """A value as a table states it: a fraction, and the images behind it."""

    value: float
    n: int


@dataclass
class Table:
    """Models of one origin: per model its type and what was measured on which axis."""

    name: str
    types: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[Axis, Measured]] = field(default_factory=dict)
    step_counts: StepCounts = field(default_factory=lambda: StepCounts("read", ""))

    def points(
        self, shift: Shift, level: float, models: Iterable[str] | None = None
    ) -> Points | None:
        """Points of the models that have all that the shift needs; None where no model has."""
        rows = []
        for model in self.values if models is None else models:
            if not self.lacks(model, shift):
                values = self.values[model]
                x = accuracy(shift.on, *values[shift.on], level)
                rows.append((model, [x], self._under(values, shift, level)))
        return Points.of(rows) if rows else None

    def lacks(self, model: str, shift: Shift) -> list[Axis]:
        """Axes that a shift needs and a model has no accuracy on."""
        needed = [shift.on, *(SHIFTS[part].axis for part in shift.parts)]
        needed += [] if shift.parts else [shift.axis]
        return [axis for axis in needed if axis not in self.values[model]]

    def _under(self, values: dict[Axis, Measured], shift: Shift, level: float) -> Accuracy:
        if not shift.parts:
            return accuracy(shift.axis, *values[shift.axis], level)
        axes = [SHIFTS[part].axis for part in shift.parts]
        return average(shift.axis, [accuracy(axis, *values[axis], level) for axis in axes])


def size_of(axis: Axis) -> int:
    """Images of a set, as it was released."""
    return SIZES[axis] if axis in SIZES else {s.axis: s.n for s in SHIFTS.values()}[axis]


def read_csv(name: str) -> list[dict[str, str]]:
    """Rows of a file of `data/reference/`."""
    text = files("clipshift").joinpath(f"data/reference/{name}").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def testbed() -> Table:
    """Taori et al.'s models with their types; all are kept, also without any accuracy here."""
    types = {r["model"]: r["model_type"] for r in read_csv("imagenet_testbed_model_types.csv")}
    rows = read_csv("imagenet_testbed_top1.csv")
    sizes = {SHIFTS["objectnet"].axis: TESTBED_OBJECTNET}
    table = Table("testbed", step_counts=StepCounts("read", "testbed", len(rows), len(rows)))
    for row in rows:
        model = row["model"]
        if model not in types:
            raise ClipshiftError(
                f"imagenet_testbed_top1.csv: the model {model!r} has no type in "
                "imagenet_testbed_model_types.csv; restore both files from git"
            )
        table.types[model] = types[model]
        table.values[model] = {
            axis: Measured(float(row[column]) / 100, sizes.get(axis, size_of(axis)))
            for axis, column in TESTBED.items()
            if row[column]
        }
    return table


@cache
def open_clip() -> Table:
    """open_clip's zero-shot table, models as `NAME PRETRAINED`; broken rows rejected."""
    rows = read_csv("openclip_results.csv")
    table = Table("open_clip", step_counts=StepCounts("read", "open_clip", len(rows)))
    for row in rows:
        values = {
            axis: Measured(float(row[column]), size_of(axis)) for axis, column in OPEN_CLIP.items()
        }
        if values[VAL].value < BROKEN_BELOW:
            table.step_counts.rejected[BROKEN] += 1
            continue
        model = f"{row['name']} {row['pretrained']}"
        table.types[model] = "zero-shot"
        table.values[model] = values
    table.step_counts.went_out = len(table.values)
    table.step_counts.check()
    return table


@cache
def timm() -> Table:
    """timm's models as `NAME @SIDE` (the input's side): ImageNet-trained or fine-tuned on it."""
    table = Table("timm", step_counts=StepCounts("read", "timm"))
    for axis, name in TIMM.items():
        for row in read_csv(f"timm_results_{name}.csv"):
            model = f"{row['model']} @{row['img_size']}"
            table.types[model] = "timm"
            values = table.values.setdefault(model, {})
            values[axis] = Measured(float(row["top1"]) / 100, size_of(axis))
    # Files of several axes repeat a model: models are counted, not rows.
    table.step_counts.came_in = table.step_counts.went_out = len(table.values)
    return table


TABLES: dict[str, Callable[[], Table]] = {
    "testbed": testbed,
    "open_clip": open_clip,
    "timm": timm,
}
