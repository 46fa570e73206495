"""The recipe `domains`: natural, rendition, and mixes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from clipshift.core.errors import ClipshiftError
from clipshift.splits.recipes import EMPTY, SELECTS, parquet, shuffled
from clipshift.study.config.names import ClassName
from clipshift.study.config.numbers import POINTS, Scaled, Seed
from clipshift.study.config.recipe_base import Candidates, Margins, Seeded, recipe

Points = Annotated[int, Field(ge=0, le=POINTS, strict=True), Scaled("images")]
Part = Annotated[float, Field(ge=0, le=POINTS)]


@recipe("domains")
class Mix(Seeded):
    """Points by their visual domain: so many natural ones, so many renditions, or any.

    Within a domain, points come in the order of a seeded hash of their keys: what a smaller number
    draws is part of what a larger one draws, whatever the other domain's number.
    """

    recipe: Literal["domains"] = Field(description=SELECTS)
    natural: Points = Field(default=0, description="Natural points to draw.")
    rendition: Points = Field(default=0, description="Renditions to draw.")
    random: Points = Field(
        default=0,
        description="Points to draw whatever their domain: the control of the same size. Not "
        "together with the others.",
    )
    total: Points = Field(default=0, description="With `ratio`: the size of the split.")
    ratio: tuple[Part, Part] | None = Field(
        default=None,
        description="With `total`: natural points to renditions, e.g. `[3, 1]`; instead of counts.",
    )
    classes: list[ClassName] | None = Field(
        default=None,
        description="Draw only points of these classes, where the pool's points have one: then "
        "conditions differ in their domain and not in what they show. Null: all points.",
    )
    seed: Seed = Field(default=0, description="Seed of the order in which points are drawn.")
    reference: bool = Field(
        default=True,
        description="Whether the points of the reference set may be drawn like those of the pool. "
        "Unlike in other recipes, none of them is added beyond that.",
    )

    by_domain: ClassVar[bool] = True
    draws_reference: ClassVar[bool] = True

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Mix":
        counts, ratio = bool(self.natural or self.rendition), self.ratio is not None
        if counts + bool(self.random) + ratio != 1:
            raise ValueError(
                "give counts (`natural`, `rendition`), or `total` with `ratio`, or `random`"
            )
        if ratio != bool(self.total):
            raise ValueError("`total` and `ratio` go together")
        if self.ratio and not sum(self.ratio):
            raise ValueError("a ratio has one part at least that is not zero")
        return self

    @property
    def parts(self) -> tuple[int, int]:
        """Natural points and renditions to draw; (0, 0) where they are drawn at random."""
        if self.ratio is None:
            return self.natural, self.rendition
        natural = round(self.total * self.ratio[0] / sum(self.ratio))
        return natural, self.total - natural

    @property
    def size(self) -> int:
        return self.random or sum(self.parts)

    @property
    def domain_counts(self) -> tuple[int, int, int]:
        return *self.parts, self.random

    def score(self, points: str, scores: Margins) -> str:
        source = f"{parquet(scores.decisions)} WHERE verdict IS NOT NULL"
        return f"SELECT key, verdict, {EMPTY} FROM {source}"

    def kept(self, candidates: Candidates) -> str:
        """Drawn: within its domain, or among all."""
        natural, rendition = self.parts
        for noun, wanted, where in (
            ("natural points", natural, "verdict = 'natural'"),
            ("renditions", rendition, "verdict = 'rendition'"),
            ("points", self.random, "true"),
        ):
            if wanted > (available := candidates.count(where)):
                raise ClipshiftError(
                    f"the split {candidates.split} wants {wanted} {noun}, but there are only "
                    f"{available} after de-duplication; lower its numbers, or the detectors' "
                    "`precision`"
                )
        group, limit = "dropped IS NULL", str(self.random)
        if not self.random:
            group += ", verdict"
            limit = (
                f"CASE verdict WHEN 'natural' THEN {natural} WHEN 'rendition' THEN {rendition} "
                "ELSE 0 END"
            )
        order = shuffled(self.seed)
        return f"row_number() OVER (PARTITION BY {group} ORDER BY {order}) <= {limit}"

    def reason(self) -> str:
        return (
            "CASE verdict WHEN 'neither' THEN 'neither natural nor rendition' "
            "WHEN 'both' THEN 'both natural and rendition' ELSE verdict || ', not drawn' END"
        )

    def refused(self, samples: str) -> tuple[str, str] | None:
        """Points of other classes than its own, or of none."""
        if self.classes is None:
            return None
        names = ", ".join("'{}'".format(name.replace("'", "''")) for name in self.classes)
        keys = f"SELECT key FROM {samples} WHERE list_contains([{names}]::VARCHAR[], class_name)"
        return "class is not asked for", f"key NOT IN ({keys})"

    def groups(self, scores: Margins) -> str:
        return f"SELECT key, verdict AS name FROM {parquet(scores.decisions)}"
