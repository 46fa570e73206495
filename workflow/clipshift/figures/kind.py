"""What the kinds of figures share: their registry, base blocks, and the paths of what they read."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from clipshift.core.brace_ranges import numbered
from clipshift.figures.published import MARK, MARK_DOMAINS
from clipshift.study.config.domains import Variant
from clipshift.study.config.folders import Outside
from clipshift.study.config.names import (
    BaseName,
    ClassifierName,
    CleanSetName,
    TestSetName,
    TrainedSplit,
)
from clipshift.study.config.numbers import DRAWS, Seed
from clipshift.study.layout.figures import FigureBlock, Files
from clipshift.study.registry import Registry

if TYPE_CHECKING:
    from clipshift.study.layout.domains import DomainLayout
    from clipshift.study.layout.study import Layout

F = TypeVar("F", bound=type[FigureBlock])
Rows = list[dict[str, Any]]
Section = Literal["accuracy", "similarity", "domains"]
PublishedTraining = Literal["laion", "laion_natural"]

# In the order of a report; a kind that is not here comes last.
KINDS: Registry[type[FigureBlock]] = Registry(
    "clipshift.figures.kinds",
    (
        "pruned", "accuracy_vs_pruned", "accuracy_vs_similarity", "effective_robustness",
        "published_line", "caption_examples", "coverage",
        "per_class", "seeds", "accuracy_by_epoch", "neighbours", "ruler", "similarity_gap",
        "density", "tolerance", "encoders", "overlap", "domain_bars", "domain_relative",
        "domain_mixes", "domain_sizes", "domain_robustness", "domain_curves", "domain_families",
        "domain_samples", "domain_detectors", "domain_composition", "domain_clean",
    ),
)  # fmt: skip

PUBLISHED_NOTE = (
    f"Points and cells marked {MARK} were measured on another pool, encoder and model; they show "
    "the shape to compare with, not a target."
)
DOMAINS_NOTE = (
    f" Numbers marked {MARK_DOMAINS} were measured on LAION and benchmarks of photographs; they "
    "show the shape to compare with, not a target."
)
# How figures name the variants of a clean set.
VARIANTS: dict[Variant, str] = {
    "original": "all images, all class names",
    "original_restricted": "all images, class names of the clean set",
    "clean": "images of the clean set, all class names",
    "clean_restricted": "images and class names of the clean set",
}
CLEAN_NOTE = (
    " Sets are cleaned of what is not of their domain; fewer class names are easier, so nothing "
    "compares across variants. Intervals (95 %) cover the choice of images and, where a "
    "split has several seeds, the variance of training."
)


def kind(
    name: str,
    *,
    section: Section,
    caption: str,
    drawn: bool = True,
    more: tuple[str, ...] = (),
    reserved: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register a block as a kind of figures; for the arguments see `FigureBlock`."""

    def register(block: F) -> F:
        block.kind, block.section, block.caption = name, section, caption
        block.drawn, block.more, block.reserved = drawn, more, reserved
        KINDS(name)(block)
        return block

    return register


# Base blocks --------------------------------------------------------------------------------------


class OfSets(FigureBlock):
    """What every figure of some test sets declares."""

    sets: list[TestSetName] = Field(min_length=1, description="Test sets, one panel each.")


class OfBases(OfSets):
    """A figure of similarities to some training data."""

    bases: list[BaseName] = Field(
        min_length=1,
        description="Training data to compare with: splits (the pool points that they keep, "
        "without the reference set), the pool before de-duplication, or the reference set.",
    )


class Shown(OfBases):
    """A figure of test images beside their neighbours."""

    def files(self, at: "Layout") -> Files:
        bases = {at.reference if b == at.reference else at.pool for b in self.bases}
        return {
            "neighbours": neighbours(at, self.sets, self.bases),
            "tests": {s: images(at, s) for s in self.sets},
            "bases": {b: images(at, b) for b in sorted(bases)},
        }


class OfSplits(OfSets):
    """A figure of the models of some splits."""

    splits: list[TrainedSplit] = Field(
        min_length=1, description="Splits, in the order to show them."
    )


class OfClean(FigureBlock):
    """What every figure of accuracies on clean sets declares."""

    clean: list[CleanSetName] = Field(
        min_length=1, description="Clean test sets; domains are theirs."
    )
    splits: list[TrainedSplit] = Field(
        min_length=1, description="Splits, in the order to show them."
    )
    variant: Variant = Field(
        default="clean_restricted",
        description="`original`: all images and class names; `clean`: the images of the clean "
        "set; `..._restricted`: only the class names that the clean set has. Fewer names are "
        "easier, so figures of different variants do not compare.",
    )
    draws: int = Field(
        default=2000, ge=100, le=DRAWS, description="Draws of images and of training."
    )
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")

    @property
    def conditions(self) -> list[str]:
        """Every split that is read, once."""
        return self.splits

    def files(self, at: "Layout") -> Files:
        """Clean sets, and per split and clean set the predictions of its runs on the whole set."""
        dom = domains(at)
        whole = {c: dom.clean_sets[c].set for c in self.clean}
        tables = predictions(at, self.conditions, whole.values())
        return {
            "clean": {c: dom.clean(c) for c in self.clean},
            "predictions": {
                split: {c: rows[whole[c]] for c in self.clean} for split, rows in tables.items()
            },
        }

    def study(self, at: "Layout") -> dict[str, Any]:
        """What splits by domain are made of."""
        counts = {split: at.cfg.splits[split].domain_counts for split in self.conditions}
        return {"mixes": {split: list(mix) for split, mix in counts.items() if mix is not None}}

    def on_clean(self) -> dict[str, list[str]]:
        return dict.fromkeys(self.conditions, self.clean)


class OfClassifiers(FigureBlock):
    """What is known of some domain classifiers."""

    classifiers: list[ClassifierName]

    def study(self, at: "Layout") -> dict[str, Any]:
        configured = at.cfg.domains.classifiers if at.cfg.domains else {}
        kept = ("kind", "form", "encoder")
        return {
            "classifiers": {
                c: {key: getattr(configured[c], key) for key in kept}
                for c in self.classifiers
                if c in configured
            }
        }


class AgainstBaseline(OfClean):
    """Accuracies of some splits beside those of a baseline of the same size."""

    baseline: TrainedSplit = Field(description="Split that the others are compared with.")

    @property
    def conditions(self) -> list[str]:
        """The baseline, then the others, each once."""
        return list(dict.fromkeys([self.baseline, *self.splits]))


# Paths --------------------------------------------------------------------------------------------


def domains(at: "Layout") -> "DomainLayout":
    """Where the files of study B lie. The configuration has to be there before this is imported."""
    from clipshift.study.layout.domains import DomainLayout

    return DomainLayout(at)


def predictions(at: "Layout", splits: Iterable[str], sets: Iterable[str]) -> Files:
    """Per split and test set the predictions of the split's runs."""
    from clipshift.study.layout.evaluation import Evaluations

    return Evaluations(at).predictions(splits, list(sets))


def evaluations(at: "Layout", splits: Iterable[str], sets: Iterable[str]) -> Files:
    """Per split its counts, and per test set the predictions of its runs."""
    return {
        split: {"counts": f"results/splits/{split}.json", "sets": rows}
        for split, rows in predictions(at, splits, sets).items()
    }


def neighbours(
    at: "Layout", sets: Iterable[str], bases: Iterable[str], encoder: str | None = None
) -> Files:
    """Per test set and base the nearest points of each test image."""
    return {s: {b: at.neighbours(b, s, encoder) for b in bases} for s in sets}


def training(at: "Layout", split: str, sets: Iterable[str]) -> Files:
    """Per test set, the neighbours files that make up a split's training data."""
    recipe = at.cfg.splits[split]
    bases = [split] * recipe.keeps_pool + [at.reference] * bool(recipe.reference)
    return {s: [at.neighbours(base, s) for base in bases] for s in sets}


def margins(at: "Layout", sets: Iterable[str], encoder: str | None = None) -> Files:
    """Per test set the margins of the pool."""
    return {s: numbered(at.margins(s, encoder=encoder)) for s in sets}


def images(at: "Layout", dataset: str) -> Files:
    """Sample tables and tars of a data set."""
    if dataset in at.cfg.pools:
        shards = at.shards(dataset)
        tars = [at.tars(dataset, shard) for shard in shards]
        return {
            "tables": numbered([at.table(dataset, shard) for shard in shards]),
            "tars": tars if isinstance(at.cfg.pools[dataset], Outside) else numbered(tars),
        }
    return {"tables": [at.table(dataset)], "tars": [at.tars(dataset)]}
