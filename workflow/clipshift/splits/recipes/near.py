"""The recipe `near`."""

from typing import Literal

from pydantic import Field

from clipshift.splits.recipes import (
    COLUMNS,
    DRIVING,
    KEEP,
    SELECTS,
    by_set,
    deciding,
    first,
    similarities,
)
from clipshift.study.config.names import TestSetName
from clipshift.study.config.recipe_base import (
    Candidates,
    Keep,
    Margins,
    Recipe,
    Rule,
    recipe,
    reference_rule,
)


@reference_rule("near")
class NearRule(Rule):
    """Near-pruning: keep the points least similar to the test sets."""

    recipe: Literal["near"] = Field(description=SELECTS)
    keep: Keep = Field(description=KEEP)
    sets: list[TestSetName] = Field(min_length=1, description=DRIVING)

    @property
    def size(self) -> Keep:
        return self.keep

    def driving_sets(self) -> list[str]:
        return self.sets

    def score(self, points: str, scores: Margins) -> str:
        """Of several sets, the most similar one decides; of equal ones, the one named first."""
        source = by_set(similarities, self.sets, points, scores)
        return f"SELECT key, {COLUMNS} FROM {deciding(source, 'similarity DESC, place')}"

    def kept(self, candidates: Candidates) -> str:
        """The other end of the order of `far`: near_k and far_(N-k) partition the points."""
        return first("similarity, key", self.keep, candidates)

    def reason(self) -> str:
        return "'near-pruned'"


@recipe("near")
class Near(Recipe, NearRule):
    """Near-pruning: keep the points least similar to the test sets."""
