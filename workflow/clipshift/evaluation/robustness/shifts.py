"""The shifted sets of ImageNet: their sizes, and the axis that their lines need.

ImageNet-A and -R have 200 of ImageNet's classes, ObjectNet 113 made of 125. Their in-distribution
axis is the validation set on the same classes, the logits restricted to them (of ObjectNet's, the
largest of the classes that are one). The average of shifts is drawn against the whole validation
set, as in Fang et al. 2022.
"""

from dataclasses import dataclass, replace

from clipshift.evaluation.robustness.points import Axis

VAL = Axis("val", "all 1,000 classes of ImageNet")
VAL_R = Axis("val-on-imagenet-r-classes", "the 200 classes of ImageNet-R")
VAL_A = Axis("val-on-imagenet-a-classes", "the 200 classes of ImageNet-A")
VAL_OBJECTNET = Axis("val-on-objectnet-classes", "the 113 classes of ObjectNet")

# Images behind an accuracy of each in-distribution axis.
SIZES = {VAL: 50_000, VAL_R: 10_000, VAL_A: 10_000, VAL_OBJECTNET: 6_250}


@dataclass(frozen=True)
class Shift:
    """A shifted set: name, title in figures, axes, images; an average names its parts."""

    name: str
    title: str
    axis: Axis
    on: Axis
    n: int
    classes: int
    parts: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """The title within a sentence."""
        return f"the {self.title}" if self.parts else self.title

    def on_full(self) -> "Shift":
        """The same against the whole validation set: another line, never to be mixed."""
        return replace(self, on=VAL)


SHIFTS = {
    shift.name: shift
    for shift in (
        Shift("v2", "ImageNetV2", Axis("imagenetv2", VAL.classes), VAL, 10_000, 1000),
        Shift("sketch", "ImageNet-Sketch", Axis("imagenet-sketch", VAL.classes), VAL, 50_889, 1000),
        Shift("r", "ImageNet-R", Axis("imagenet-r", VAL_R.classes), VAL_R, 30_000, 200),
        Shift("a", "ImageNet-A", Axis("imagenet-a", VAL_A.classes), VAL_A, 7_500, 200),
        Shift(
            "objectnet",
            "ObjectNet",
            Axis("objectnet", VAL_OBJECTNET.classes),
            VAL_OBJECTNET,
            18_574,
            113,
        ),
        Shift(
            "average",
            "mean of V2, Sketch, R, ObjectNet",
            Axis("mean of V2, Sketch, R, ObjectNet", "the classes of each"),
            VAL,
            109_463,
            1000,
            ("v2", "sketch", "r", "objectnet"),
        ),
    )
}
