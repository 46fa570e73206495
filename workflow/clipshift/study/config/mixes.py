"""Configuration block of the splits that are made by visual domain: natural, rendition, mixes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import ClassName, ModelName

Points = Annotated[int, Field(ge=0, strict=True)]


class Seeded(Block):
    """What every recipe declares of the trainings on its split."""

    seeds: list[int] | None = Field(
        default=None,
        description="Training seeds of this split (default: the study's). `[]`: the split is made, "
        "but no model is trained on it.",
    )
    model: ModelName | None = Field(
        default=None, description="Model of `results/eval/{split}.json` (default: the study's)."
    )


class Mix(Seeded):
    """Points by their visual domain: so many natural ones, so many renditions, or any.

    Within a domain, points come in the order of a seeded hash of their keys: what a smaller number
    draws is part of what a larger one draws, whatever the other domain's number.
    """

    recipe: Literal["domains"] = Field(description="Selects this recipe.")
    natural: Points = Field(default=0, description="Natural points to draw.")
    rendition: Points = Field(default=0, description="Renditions to draw.")
    random: Points = Field(
        default=0,
        description="Points to draw whatever their domain: the control of the same size. Not "
        "together with the others.",
    )
    total: Points = Field(default=0, description="With `ratio`: the size of the split.")
    ratio: tuple[float, float] | None = Field(
        default=None,
        description="With `total`: natural points to renditions, e.g. `[3, 1]`; instead of counts.",
    )
    classes: list[ClassName] | None = Field(
        default=None,
        description="Draw only points of these classes, where the pool's points have one: then "
        "arms differ in their domain and not in what they show. Null: all points.",
    )
    seed: int = Field(default=0, description="Seed of the order in which points are drawn.")
    reference: bool = Field(
        default=True,
        description="Whether the points of the reference set may be drawn like those of the pool. "
        "Unlike in other recipes, none of them is added beyond that.",
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Mix":
        counts, ratio = bool(self.natural or self.rendition), self.ratio is not None
        if counts + bool(self.random) + ratio != 1:
            raise ValueError(
                "give counts (`natural`, `rendition`), or `total` with `ratio`, or `random`"
            )
        if ratio != bool(self.total):
            raise ValueError("`total` and `ratio` go together")
        if self.ratio and (min(self.ratio) < 0 or not sum(self.ratio)):
            raise ValueError("a ratio has no negative part, and one that is not zero")
        return self

    @property
    def parts(self) -> tuple[int, int]:
        """Natural points and renditions to draw; (0, 0) where they are drawn at random."""
        if self.ratio is None:
            return self.natural, self.rendition
        natural = round(self.total * self.ratio[0] / sum(self.ratio))
        return natural, self.total - natural

    @property
    def keep(self) -> int:
        """Points of the split."""
        return self.random or sum(self.parts)
