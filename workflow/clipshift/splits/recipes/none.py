"""The recipe `none`."""

from typing import ClassVar, Literal

from pydantic import Field

from clipshift.splits.recipes import SELECTS
from clipshift.study.config.recipe_base import Candidates, Recipe, recipe


@recipe("none")
class Nothing(Recipe):
    """No pool point: the reference set alone."""

    recipe: Literal["none"] = Field(description=SELECTS)

    keeps_pool: ClassVar[bool] = False

    def kept(self, candidates: Candidates) -> str:
        return "false"

    def reason(self) -> str:
        return "'no pool points'"
