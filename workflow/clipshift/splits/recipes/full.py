"""The recipe `full`."""

from typing import ClassVar, Literal

from pydantic import Field

from clipshift.splits.recipes import SELECTS
from clipshift.study.config.recipe_base import Candidates, Recipe, recipe


@recipe("full")
class Full(Recipe):
    """The whole pool after de-duplication."""

    recipe: Literal["full"] = Field(description=SELECTS)

    keeps_all: ClassVar[bool] = True

    def kept(self, candidates: Candidates) -> str:
        return "true"

    def reason(self) -> str:
        return "'full-pruned'"
