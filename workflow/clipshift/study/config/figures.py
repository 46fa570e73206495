"""Configuration of the figures and tables: `figures: {KIND: {NAME: block}}`.

A block of the kind KIND and the name NAME is drawn as `results/figures/KIND_NAME.svg` (and `.pdf`),
with its numbers in `results/tables/KIND_NAME.csv`.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.domain_figures import DomainFigures
from clipshift.study.config.names import (
    BaseName,
    EncoderName,
    Name,
    PrunedSplit,
    TestSetName,
    TrainedSplit,
    WholeSplit,
)
from clipshift.study.config.robustness import RESERVED, OwnRobustness

Series = Literal["sketch", "val", "r"]
PublishedSet = Literal["val", "sketch", "r", "v2", "a", "objectnet"]
PublishedRow = Literal[
    "full", "val", "sketch", "r", "v2", "a", "objectnet", "combined", "no_reference"
]


class OfSets(Block):
    """What every figure of some test sets declares."""

    sets: list[TestSetName] = Field(min_length=1, description="Test sets, one panel each.")


class OfBases(OfSets):
    """A figure of similarities to some training data."""

    bases: list[BaseName] = Field(
        min_length=1,
        description="Training data to compare with: splits (the pool points that they keep, "
        "without the reference set), the pool before de-duplication, or the reference set.",
    )


class OfSplits(OfSets):
    """A figure of the models of some splits."""

    splits: list[TrainedSplit] = Field(
        min_length=1, description="Splits, in the order to show them."
    )


class PublishedCurve(Block):
    """Published points to draw beside a curve."""

    sets: dict[TestSetName, Literal["sketch", "val"]] = Field(
        description="Test set -> the published test set drawn in its panel."
    )
    lines: dict[str, Literal["rand", "near", "far"]] = Field(
        description="Line label -> the published way of pruning drawn in its colour."
    )


class Curve(OfSets):
    """Accuracy against points pruned: the splits of each line, drawn with their intervals."""

    baseline: TrainedSplit = Field(description="Split drawn as the star at zero points pruned.")
    lines: dict[str, list[TrainedSplit]] = Field(description="Line label -> its splits.")
    axis: Literal["number", "share"] = Field(
        default="number", description="Points pruned as a number, or as a share of the pool."
    )
    published: PublishedCurve | None = Field(
        default=None,
        description="Published points to draw beside ours (needs `axis: share`: the pools differ "
        "in size).",
    )

    @property
    def splits(self) -> list[str]:
        """Every split of the figure once: the baseline, then those of the lines."""
        return list(dict.fromkeys([self.baseline, *(s for v in self.lines.values() for s in v)]))

    @model_validator(mode="after")
    def _published_fits(self) -> "Curve":
        if self.published and self.axis != "share":
            raise ValueError("published points need `axis: share`: the pools differ in size")
        if self.published and (odd := self.published.lines.keys() - self.lines.keys()):
            raise ValueError(f"published.lines: no line is called {sorted(odd)}")
        return self


class Examples(OfBases):
    """Example pictures with their nearest neighbours in each base."""

    queries: int = Field(
        default=5,
        ge=1,
        description="Test pictures per set, one from each of as many equal parts of the order "
        "of similarity.",
    )
    shown: int = Field(default=3, ge=1, description="Neighbours per base.")
    seed: int = Field(default=0, description="Seed of the choice within each part.")


class Ruler(OfBases):
    """Pairs of a test picture and a neighbour, from the most to the least similar."""

    steps: int = Field(
        default=9, ge=2, description="Pairs, at equal distances between the ends of the ruler."
    )


class Binned(OfSets):
    """Accuracy against the nearest-neighbour similarity to the training data, in bins."""

    split: WholeSplit = Field(description="Split whose models are measured.")
    width: float = Field(default=0.05, gt=0, le=1, description="Width of a bin of similarity.")
    draws: int = Field(default=1000, ge=100, description="Bootstrap draws of Spearman's rho.")
    seed: int = Field(default=0, description="Seed of the bootstrap.")
    published: dict[TestSetName, Series] = Field(
        default={}, description="Test set -> the published points to draw beside ours."
    )


class Gap(OfBases):
    """Distribution of the nearest-neighbour similarity of each test set to each base."""

    width: float = Field(default=0.025, gt=0, le=1, description="Width of a bar of similarity.")


class Density(OfBases):
    """How many points of each base lie above a similarity, over the test images."""

    band: tuple[float, float] = Field(
        default=(0.1, 0.9), description="Quantiles over the test images between which to shade."
    )


class PrunedTable(OfSplits):
    """Table of splits: points removed, and accuracy on each test set."""

    published: dict[TrainedSplit, PublishedRow] = Field(
        default={}, description="Split -> published row to print beside it."
    )
    published_sets: dict[TestSetName, PublishedSet] = Field(
        default={}, description="Test set -> its published counterpart."
    )


class PerClass(OfSplits):
    """Accuracy per class, against the mean nearest-neighbour similarity of the class."""

    splits: list[WholeSplit] = Field(min_length=1, description="Splits, in the order to show them.")


class Seeds(OfSplits):
    """Accuracy over trainings that differ in nothing but their seed."""


class Tolerance(OfSets):
    """Points removed by similarity-gap pruning, over a grid of tolerances."""

    tolerances: list[float] = Field(
        min_length=1,
        description="Grid; a point is removed iff its margin is larger. Negative ones remove "
        "points that are less close than the reference set.",
    )
    splits: list[PrunedSplit] = Field(
        default=[], description="Splits of the recipe `pruned` whose accuracy to add."
    )


class Encoders(OfBases):
    """Nearest-neighbour similarity by one encoder against another."""

    encoders: tuple[EncoderName, EncoderName] = Field(description="The two encoders.")
    draws: int = Field(default=1000, ge=100, description="Bootstrap draws of Spearman's rho.")
    seed: int = Field(default=0, description="Seed of the bootstrap.")


class Overlap(OfSets):
    """What similarity-gap pruning would remove by two encoders: sizes and Jaccard index."""

    encoders: tuple[EncoderName, EncoderName] = Field(description="The two encoders.")
    tolerances: list[float] = Field(
        default=[0.0], min_length=1, description="Tolerances of the pruning."
    )


class Figures(DomainFigures):
    """Figures and tables of the study; each is a file target."""

    neighbours: dict[Name, Examples] = Field(
        default={}, description="Name -> `results/figures/neighbours_{name}.svg`."
    )
    ruler: dict[Name, Ruler] = Field(
        default={}, description="Name -> `results/figures/ruler_{name}.svg`."
    )
    accuracy_vs_similarity: dict[Name, Binned] = Field(
        default={}, description="Name -> `results/figures/accuracy_vs_similarity_{name}.svg`."
    )
    accuracy_vs_pruned: dict[Name, Curve] = Field(
        default={}, description="Name -> `results/figures/accuracy_vs_pruned_{name}.svg`."
    )
    similarity_gap: dict[Name, Gap] = Field(
        default={}, description="Name -> `results/figures/similarity_gap_{name}.svg`."
    )
    density: dict[Name, Density] = Field(
        default={}, description="Name -> `results/figures/density_{name}.svg`."
    )
    pruned: dict[Name, PrunedTable] = Field(
        default={}, description="Name -> `results/tables/pruned_{name}.csv`."
    )
    per_class: dict[Name, PerClass] = Field(
        default={}, description="Name -> `results/tables/per_class_{name}.csv` and figure."
    )
    seeds: dict[Name, Seeds] = Field(
        default={}, description="Name -> `results/tables/seeds_{name}.csv` and figure."
    )
    tolerance: dict[Name, Tolerance] = Field(
        default={}, description="Name -> `results/tables/tolerance_{name}.csv` and figure."
    )
    encoders: dict[Name, Encoders] = Field(
        default={}, description="Name -> `results/figures/encoders_{name}.svg`."
    )
    overlap: dict[Name, Overlap] = Field(
        default={}, description="Name -> `results/figures/overlap_{name}.svg`."
    )
    effective_robustness: dict[Name, OwnRobustness] = Field(
        default={}, description="Name -> `results/figures/effective_robustness_{name}.svg`."
    )
    contrasts: list[tuple[TrainedSplit, TrainedSplit, TestSetName]] = Field(
        default=[],
        description="[split, other split, test set]: differences with intervals.",
    )

    @model_validator(mode="after")
    def _names_are_free(self) -> "Figures":
        if taken := self.effective_robustness.keys() & set(RESERVED):
            raise ValueError(
                f"effective_robustness: {sorted(taken)} name tables of published models"
            )
        return self

    def blocks(self) -> Iterator[tuple[str, str, Any]]:
        """Every figure and table: its kind, name and block, in the order of a report."""
        for kind in type(self).model_fields:
            if kind != "contrasts":
                yield from ((kind, name, block) for name, block in getattr(self, kind).items())
