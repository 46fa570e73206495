"""The recipe `far`."""

from typing import Literal

from pydantic import Field

from clipshift.splits.recipes import (
    COLUMNS,
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

# The place of a candidate in the list of a set.
RANK = "row_number() OVER (PARTITION BY place, dropped IS NULL ORDER BY similarity DESC, key)"


@reference_rule("far")
class FarRule(Rule):
    """Far-pruning: keep the points most similar to the test sets."""

    recipe: Literal["far"] = Field(description=SELECTS)
    keep: Keep = Field(description=KEEP)
    sets: list[TestSetName] = Field(min_length=1, description="Driving test sets.")
    combine: Literal["max", "quota", "union"] = Field(
        default="max",
        description="Order by several sets. `max`: the largest similarity to any of them; "
        "`quota`: points belong to their most similar set and the sets take turns, so each gets "
        "an equal share; `union`: the sets take turns over their own lists of most similar points, "
        "and a point of several lists counts once.",
    )

    @property
    def size(self) -> Keep:
        return self.keep

    def driving_sets(self) -> list[str]:
        return self.sets

    def score(self, points: str, scores: Margins) -> str:
        """As for `near`; with `union` the set decides in whose list the point comes first."""
        source = by_set(similarities, self.sets, points, scores)
        if self.combine == "union":
            source = deciding(f"(SELECT *, {RANK} AS rank FROM {source})", "rank, place")
        else:
            source = deciding(source, "similarity DESC, place")
        if self.combine == "quota":
            source = f"(SELECT *, {RANK} AS rank FROM {source})"
        ranked = "" if self.combine == "max" else ", rank, place"
        return f"SELECT key, {COLUMNS}{ranked} FROM {source}"

    def kept(self, candidates: Candidates) -> str:
        # The sets take turns: the best of each, then the second of each, ...
        order = "similarity DESC, key DESC" if self.combine == "max" else "rank, place"
        return first(order, self.keep, candidates)

    def reason(self) -> str:
        return "'far-pruned'"


@recipe("far")
class Far(Recipe, FarRule):
    """Far-pruning: keep the points most similar to the test sets."""
