"""The recipe `rand`."""

from typing import Literal

from pydantic import Field

from clipshift.splits.recipes import SELECTS, first, shuffled
from clipshift.study.config.numbers import Seed
from clipshift.study.config.recipe_base import (
    Candidates,
    Keep,
    Recipe,
    Rule,
    recipe,
    reference_rule,
)


@reference_rule("rand")
class RandRule(Rule):
    """A random part of some points; nested in `keep`."""

    recipe: Literal["rand"] = Field(description=SELECTS)
    keep: Keep = Field(
        description="Points to keep: a count, a share (a float up to 1.0) of the candidates (the "
        "de-duplicated pool), or the name of a split of no fixed size to be as large as (a "
        "size-matched control)."
    )
    seed: Seed = Field(default=0, description="Seed of the order.")

    @property
    def size(self) -> Keep:
        return self.keep

    def kept(self, candidates: Candidates) -> str:
        return first(shuffled(self.seed), self.keep, candidates)

    def reason(self) -> str:
        return "'rand-pruned'"


@recipe("rand")
class Rand(Recipe, RandRule):
    """A random part of the pool; nested in `keep`."""
