"""Configuration of the figures and tables of study B; see `config.figures` for what a block is."""

from typing import Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import (
    ClassifierName,
    CleanSetName,
    DatasetName,
    Name,
    TrainedSplit,
)

Variant = Literal["original", "original_restricted", "clean", "clean_restricted"]
PublishedArm = Literal["laion", "laion_natural"]
# What was measured on LAION-200M and the benchmarks, by the paper's names.
PublishedClean = Literal[
    "val", "v2", "a", "objectnet", "dn-real", "dn-infograph natural", "r", "sketch", "dn-sketch",
    "dn-painting", "dn-clipart", "dn-quickdraw", "dn-infograph rendition",
]  # fmt: skip


class OfClean(Block):
    """What every figure of accuracies on clean sets declares."""

    clean: list[CleanSetName] = Field(
        min_length=1, description="Clean test sets; domains are theirs."
    )
    splits: list[TrainedSplit] = Field(
        min_length=1, description="Splits, in the order to show them."
    )
    variant: Variant = Field(
        default="clean_restricted",
        description="`original`: all pictures and class names; `clean`: the pictures of the clean "
        "set; `..._restricted`: only the class names that the clean set has. Fewer names are "
        "easier, so figures of different variants do not compare.",
    )
    draws: int = Field(default=2000, ge=100, description="Bootstrap draws of images and seeds.")
    seed: int = Field(default=0, description="Seed of the bootstrap.")


class AgainstBaseline(OfClean):
    """Accuracies of some splits beside those of a baseline of the same size."""

    baseline: TrainedSplit = Field(description="Split that the others are compared with.")

    @property
    def arms(self) -> list[str]:
        """The baseline, then the others, each once."""
        return list(dict.fromkeys([self.baseline, *self.splits]))


class DomainBars(AgainstBaseline):
    """Mean accuracy on natural and on rendition sets, and the differences to a baseline."""

    published: dict[TrainedSplit, PublishedArm] = Field(
        default={}, description="Split -> published training set to draw beside it."
    )


class DomainRelative(AgainstBaseline):
    """Accuracy relative to that of a baseline, both less a correction.

    The paper has no formula for its corrected performance; the figure prints the one that it used.
    """

    correction: Literal["none", "chance", "id_line"] = Field(
        default="chance",
        description="What is taken off both accuracies: nothing; chance level; or, on rendition "
        "sets, what the line of `line` expects at the accuracy on the natural sets (on natural "
        "sets chance level, since there the line has nothing to say).",
    )
    line: list[TrainedSplit] = Field(
        default=[],
        description="For `id_line`: splits whose runs the line is fitted to, e.g. models of one "
        "domain alone.",
    )
    published: dict[TrainedSplit, PublishedArm] = Field(
        default={}, description="Split -> published training set to draw beside it."
    )

    @property
    def arms(self) -> list[str]:
        """Those to compare, and those that the line needs."""
        return list(dict.fromkeys([*super().arms, *self.line]))

    @model_validator(mode="after")
    def _line_where_asked(self) -> "DomainRelative":
        if (self.correction == "id_line") != bool(self.line):
            raise ValueError("`line` goes with `correction: id_line`, which needs it")
        return self


class DomainMixes(OfClean):
    """Natural against rendition accuracy, the mixing ratio written at every point."""

    published: list[PublishedArm] = Field(
        default=[], description="Published training sets to draw beside ours."
    )


class DomainSizes(OfClean):
    """Accuracy of mixes against their total size, one line per share of natural points."""


class DomainRobustness(OfClean):
    """Accuracy on every rendition set against the mean accuracy on the natural sets.

    Without a line of ImageNet models: one holds for ImageNet and its shifted sets only.
    """


class DomainCurves(Block):
    """Precision-recall curves of the domain classifiers, with their operating points."""

    classifiers: list[ClassifierName] = Field(
        min_length=1, description="Classifiers, one line each."
    )
    set: str = Field(
        default="test", description="Labelled set: `test`, `validation`, or a labelled test set."
    )


class DomainSamples(Block):
    """Pictures of each verdict: some at random, some from the most to the least confident."""

    datasets: list[DatasetName] = Field(min_length=1, description="Pools and sets to choose from.")
    shown: int = Field(default=10, ge=2, description="Pictures per row.")
    seed: int = Field(default=0, description="Seed of the random rows.")


class DetectorTable(Block):
    """Precision and recall of every classifier on every labelled set (the paper's table 1)."""

    classifiers: list[ClassifierName] = Field(
        min_length=1, description="Classifiers, in their order."
    )


class CompositionTable(Block):
    """What pools and test sets are made of (the paper's table 2)."""

    published: dict[DatasetName, Literal["laion_200m"]] = Field(
        default={}, description="Data set -> published composition to print beside it."
    )


class CleanTable(Block):
    """Sizes and classes of the clean test sets (the paper's table 12)."""

    clean: list[CleanSetName] = Field(min_length=1, description="Clean test sets, in their order.")
    published: dict[CleanSetName, PublishedClean] = Field(
        default={}, description="Clean set -> its published counterpart."
    )


class DomainFigures(Block):
    """Figures and tables of study B."""

    domain_bars: dict[Name, DomainBars] = Field(
        default={}, description="Name -> `results/figures/domain_bars_{name}.svg`."
    )
    domain_relative: dict[Name, DomainRelative] = Field(
        default={}, description="Name -> `results/figures/domain_relative_{name}.svg`."
    )
    domain_mixes: dict[Name, DomainMixes] = Field(
        default={}, description="Name -> `results/figures/domain_mixes_{name}.svg`."
    )
    domain_sizes: dict[Name, DomainSizes] = Field(
        default={}, description="Name -> `results/figures/domain_sizes_{name}.svg`."
    )
    domain_robustness: dict[Name, DomainRobustness] = Field(
        default={}, description="Name -> `results/figures/domain_robustness_{name}.svg`."
    )
    domain_curves: dict[Name, DomainCurves] = Field(
        default={}, description="Name -> `results/figures/domain_curves_{name}.svg`."
    )
    domain_samples: dict[Name, DomainSamples] = Field(
        default={}, description="Name -> `results/figures/domain_samples_{name}.svg`."
    )
    domain_detectors: dict[Name, DetectorTable] = Field(
        default={}, description="Name -> `results/tables/domain_detectors_{name}.csv`."
    )
    domain_composition: dict[Name, CompositionTable] = Field(
        default={}, description="Name -> `results/tables/domain_composition_{name}.csv`."
    )
    domain_clean: dict[Name, CleanTable] = Field(
        default={}, description="Name -> `results/tables/domain_clean_{name}.csv`."
    )
