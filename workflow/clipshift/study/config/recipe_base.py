"""What a split recipe is: the base of the blocks in `splits.recipes`, and their registry.

Layout, costs, definitions and figures ask a recipe these questions, and never which one it is.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import ModelName, SplitName, UnsizedSplit
from clipshift.study.config.numbers import POINTS, Scaled, Seeds
from clipshift.study.registry import Registry


def _not_one(value: Any) -> Any:
    if type(value) is int and value == 1:
        raise ValueError("1 would be one point; 1.0 is all of them")
    return value


# A count, or a share of a whole.
Size = (
    Annotated[int, Field(ge=1, le=POINTS, strict=True)]
    | Annotated[float, Field(gt=0, le=1, strict=True)]
)
# The same, or the name of a split to be as large as.
Keep = Annotated[Size | UnsizedSplit, BeforeValidator(_not_one), Scaled("images")]


@dataclass(frozen=True)
class Margins:
    """Scores of some points: per driving test set their margins and its thresholds.

    Attributes:
        decisions: tables with `key, verdict`, for splits by domain.
    """

    margins: Mapping[str, Sequence[Path]]
    thresholds: Mapping[str, Path]
    decisions: Sequence[Path] = ()


@dataclass(frozen=True)
class Candidates:
    """The points that a recipe chooses among, in a table with the columns of its `score`.

    Attributes:
        split: name of the split, for messages.
        number: how many they are.
        like: points to keep, where the recipe names another split as its size.
        count: how many fulfil an SQL condition.
    """

    split: str
    number: int
    like: int | None
    count: Callable[[str], int]


class Rule(Block):
    """A choice among points: those of the pool, or, nested in `reference`, of the reference set.

    SQL is DuckDB's. It must order points completely: a split depends on no order of files.
    """

    if TYPE_CHECKING:
        recipe: str

    by_domain: ClassVar[bool] = False  # It needs the decisions of domain classifiers.

    @property
    def size(self) -> int | float | str | None:
        """Points that it keeps: a count, a share, as many as another split; None: not known."""
        return None

    @property
    def like(self) -> str | None:
        """The split that it is to be as large as, if any."""
        return self.size if isinstance(self.size, str) else None

    def share(self, points: float) -> float | None:
        """Share of so many points that it keeps, where this is known before."""
        if isinstance(self.size, int):
            return min(1.0, self.size / points)
        return self.size if isinstance(self.size, float) else None

    @property
    def gap_tolerance(self) -> float | None:
        """The tolerance of similarity-gap pruning; None: it prunes otherwise."""
        return None

    def driving_sets(self) -> list[str]:
        """Test sets whose margins it needs."""
        return []

    def score(self, points: str, scores: Margins) -> str | None:
        """SQL of the table that `kept` reads: a row for each of the table `points`, or more.

        Columns: `key`, `splits.recipes.COLUMNS`, and those of its own. None: it reads no scores.
        """
        return None

    @abstractmethod
    def kept(self, candidates: Candidates) -> str:
        """SQL condition that a candidate is kept.

        Raises:
            ClipshiftError: there are fewer candidates than wanted.
        """

    @abstractmethod
    def reason(self) -> str:
        """SQL text: why a candidate is not kept."""


class Seeded(Rule):
    """What every recipe declares of the trainings on its split."""

    if TYPE_CHECKING:
        reference: bool | Rule

    seeds: Seeds | None = Field(
        default=None,
        description="Training seeds of this split (default: the study's). `[]`: the split is made, "
        "but no model is trained on it.",
    )
    model: ModelName | None = Field(
        default=None, description="Model of `results/eval/{split}.json` (default: the study's)."
    )

    within: SplitName | None = Field(
        default=None,
        description="Choose among the pool's points that another split keeps, e.g. far-pruning "
        "within a similarity-pruned pool. Shares of `keep` are of these.",
    )
    later = frozenset({"within"})

    keeps_all: ClassVar[bool] = False  # Every point of the pool that is no duplicate is part of it.
    keeps_pool: ClassVar[bool] = True  # Points of the pool can be part of it.
    draws_reference: ClassVar[bool] = False  # The reference set's points are drawn like the pool's.

    @property
    def reference_rule(self) -> Rule | None:
        """The rule that prunes the reference set; None: all of it is added, or nothing."""
        return self.reference if isinstance(self.reference, Rule) else None

    def reference_driving_sets(self) -> list[str]:
        """Test sets to which it needs the margins of the reference set."""
        return self.reference_rule.driving_sets() if self.reference_rule else []

    @property
    def chooses_reference(self) -> bool:
        """Whether a part of the reference set may be left out."""
        return bool(self.reference) if self.draws_reference else self.reference_rule is not None

    @property
    def domain_counts(self) -> tuple[int, int, int] | None:
        """Natural points, renditions, and points of any domain to draw; None: not by domain."""
        return None

    def refused(self, samples: str) -> tuple[str, str] | None:
        """Reason, and SQL condition on `key`, of points that are no candidates.

        Args:
            samples: SQL source with the columns of sample tables.
        """
        return None

    def groups(self, scores: Margins) -> str | None:
        """SQL of a table `key, name`: the split's counts say how many of each name are kept."""
        return None


class Recipe(Seeded):
    """What every split recipe declares."""

    reference: "bool | ReferenceRule" = Field(
        default=True,
        description="Add the reference set to the training data; or a recipe (rand, near, far, "
        "pruned) that says which part of it. `pruned` needs a negative tolerance to remove "
        "anything: no reference point is closer than the closest.",
    )

    @model_validator(mode="after")
    def _a_size_of_its_own(self) -> "Recipe":
        if self.reference_rule and self.reference_rule.like:
            raise ValueError("reference.keep: give a count or a share")
        return self


ORDER = ("full", "none", "rand", "near", "far", "pruned", "domains")
recipe: Registry[type[Seeded]] = Registry("clipshift.splits.recipes", ORDER)
# Recipes that can be nested in `reference`.
reference_rule: Registry[type[Rule]] = Registry("clipshift.splits.recipes", ORDER)

if TYPE_CHECKING:
    ReferenceRule = Rule
