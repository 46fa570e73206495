"""Configuration of study B: who is natural, who is a rendition, and the clean test sets.

The block `domains` names the labels, the classifiers that learn from them, the two detectors that
are used, and the clean version of each test set.
"""

from math import ceil, log
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from clipshift.study.config.classifier_base import ClassifierBase, Detected, Domain, classifier
from clipshift.study.config.data import Block
from clipshift.study.config.names import (
    ClassifierName,
    ClassName,
    DatasetName,
    FullSplit,
    Name,
    SetName,
)
from clipshift.study.config.numbers import DRAWS, POINTS, Seed

# What the two detectors say of an image together.
DECISIONS = ("natural", "rendition", "neither", "both")
# Of a clean set: which of its images, and which class names.
Variant = Literal["original", "original_restricted", "clean", "clean_restricted"]


class Labels(Block):
    """Where the labels come from: a table over the sources, people, or both (people win)."""

    datasets: list[DatasetName] = Field(
        min_length=1,
        description="Pools and sets whose labelled images the classifiers learn from. Labels of "
        "test sets are only measured on.",
    )
    table: dict[str, Domain] = Field(
        default={}, description="Domain of a source (`sources.*.domain`) -> label."
    )
    paths: dict[Domain, list[str]] = Field(
        default={},
        description="Exceptions: label -> category paths, or parents of them; the longest match "
        "wins. Here the ambiguous ones are named.",
    )
    file: str | None = Field(
        default=None,
        description="Table of labels by people (parquet: `key`, `label` 0 natural, 1 rendition, "
        "2 ambiguous, `concept`, `source`, `annotator`). A relative path is below `data` if it "
        "begins with `data:`. The majority of the annotators counts; without one an image is "
        "ambiguous.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Labels":
        if not self.table and self.file is None:
            raise ValueError("give a `table` over the sources, or the `file` of people's labels")
        return self


class Parts(Block):
    """Labelled concepts are shared out: all images of a concept are in one part."""

    validation: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the concepts that thresholds are chosen on."
    )
    test: float = Field(
        default=0.25, gt=0, lt=1, description="Share of the concepts that are only measured on."
    )
    seed: Seed = Field(default=0, description="Seed of the parts.")

    @model_validator(mode="after")
    def _leave_some(self) -> "Parts":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave no concept to train on")
        return self


if TYPE_CHECKING:
    Classifier = ClassifierBase
else:
    # The blocks of `classifiers.methods`, each in a file of its own.
    Classifier = classifier.union("kind")


class Clean(Block):
    """A test set without the images that are not of its domain."""

    set: SetName = Field(description="The labelled set.")
    domain: Detected = Field(
        description="Its domain: what the detector of this domain accepts is kept."
    )
    classes: list[ClassName] | None = Field(
        default=None, description="Restrict it to these classes (default: all that are left)."
    )
    minimum_per_class: int = Field(
        default=1, ge=1, le=POINTS, description="Classes with fewer images left are dropped whole."
    )


def images_needed(precision: float, confidence: float) -> int | None:
    """Images accepted without an error whose lower bound reaches a precision; None: no number.

    >>> images_needed(0.98, 0.95)
    149
    """
    return ceil(log(1 - confidence) / log(precision)) if precision < 1 else None


class Domains(Block):
    """Study B: domains of images, and test sets cleaned by them."""

    later = frozenset({"pool_of", "benchmarks"})

    name: Name = Field(description="Folder of the results: `results/domains/{name}`.")
    labels: Labels = Field(description="Labels.")
    parts: Parts = Field(default=Parts(), description="Training, validation and test concepts.")
    classifiers: dict[Name, Classifier] = Field(
        min_length=1,
        description="Classifiers to compare; a name with `{key}` is a sweep, see above.",
    )
    natural: ClassifierName = Field(description="The classifier whose natural detector is used.")
    rendition: ClassifierName = Field(
        description="The classifier whose rendition detector is used."
    )
    precision: float = Field(
        default=0.98,
        gt=0,
        le=1,
        description="Operating point: the lowest threshold with at least this precision on the "
        "validation part. Another value computes no score again.",
    )
    confidence: float | None = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="Of a lower bound of the precision, which must reach `precision`: the lowest "
        "precise threshold of a few thousand images is less precise on others in half of the "
        "cases. Where the labels are too few (149 accepted without an error for 98 %), and with "
        "null, the point estimate decides.",
    )
    datasets: list[DatasetName] = Field(
        default=[],
        description="Pools and sets, beside the study's pool, reference set and test sets and the "
        "clean test sets, to score.",
    )
    pool_of: FullSplit | None = Field(
        default=None,
        description="A split of the recipe `full`: of the pool, only what it keeps is labelled, "
        "scored and counted, so that no duplicate passes a tuned encoder. Splits by domain draw "
        "from the same points either way. Default: the whole pool.",
    )
    benchmarks: dict[SetName, str] = Field(
        default={},
        description="Test set -> table of people's labels of some of its images, as `labels.file`. "
        "They are measured on, and nothing learns from them: precision and recall of the detectors "
        "on the set, and how clean its clean versions are.",
    )
    clean: dict[Name, Clean] = Field(default={}, description="Clean test sets, by name.")
    draws: int = Field(
        default=2000, ge=100, le=DRAWS, description="Draws of the corrected composition."
    )
    seed: Seed = Field(default=0, description="Seed of these draws.")

    @model_validator(mode="after")
    def _detectors_detect(self) -> "Domains":
        for domain, name in self.detectors.items():
            block = self.classifiers.get(name)
            if block and domain not in block.detected:
                raise ValueError(f"{domain}: {name!r} detects {block.detects} images only")
        return self

    @property
    def labels_needed(self) -> str:
        """How many labels a threshold by its lower bound needs, for people; empty: none is asked.

        Read by `clipshift check`, before anybody labels.
        """
        if self.confidence is None:
            return ""
        needed = images_needed(self.precision, self.confidence)
        if needed is None:
            return "domains.precision: no lower bound reaches 1; set `confidence: null`"
        return (
            f"domains: a precision of {self.precision} by its lower bound needs {needed} images "
            "of a domain in the validation part that are accepted without an error, so at least "
            f"{ceil(needed / self.parts.validation)} labelled ones; with fewer the point estimate "
            "is used"
        )

    @property
    def detectors(self) -> dict[str, str]:
        """Detected domain -> its classifier."""
        return {"natural": self.natural, "rendition": self.rendition}
