"""Configuration blocks of what a training set is made of: de-duplication and split recipes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.mixes import Mix, Seeded
from clipshift.study.config.names import TestSetName, UnsizedSplit

# A count, or a share of a whole.
Size = Annotated[int, Field(ge=1, strict=True)] | Annotated[float, Field(gt=0, le=1, strict=True)]
Rule = Literal["earlier-neighbour", "greedy", "connected-components", "none"]


class Dedup(Block):
    """De-duplication of the pool in the embedding space, within clusters.

    Scores are stored; the rule and its threshold apply in a later, cheap step.
    """

    rule: Rule = Field(
        default="earlier-neighbour",
        description="Who is dropped among points more similar than the threshold. "
        "`earlier-neighbour`: a point with an earlier one (by key), kept or not; "
        "`greedy`: a point with an earlier *kept* one; `connected-components`: all but the first "
        "of each component; `none`: nobody.",
    )
    threshold: float = Field(
        default=0.876, gt=0, lt=1, description="Similarity above which points are duplicates."
    )
    clusters: int = Field(
        default=1,
        ge=1,
        description="Clusters (k-means) within which points are compared; 1 compares all pairs.",
    )
    sample: int = Field(
        default=256_000, ge=1, description="Points that the clusters are fitted on (by key, seed)."
    )
    iterations: int = Field(default=20, ge=1, description="Iterations of k-means.")
    seed: int = Field(default=0, description="Seed of the samples and of k-means.")
    jobs: int = Field(default=1, ge=1, description="Jobs that share the clusters.")
    pairs_above: float | None = Field(
        default=None,
        description="Store all pairs more similar than this: what `greedy` and "
        "`connected-components` read, for thresholds not below it. Null stores none.",
    )
    check: int = Field(
        default=1000,
        ge=1,
        description="Points compared with the whole pool, for the record's recall and precision.",
    )
    sweep: list[float] = Field(
        default=[0.8, 0.85, 0.876, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99],
        description="Thresholds of the table of shares dropped.",
    )

    embed: bool = Field(
        default=True,
        description="false (with the rule `none`): splits choose among all points of the pool, "
        "embedded or not; for studies that read no similarity.",
    )

    @model_validator(mode="after")
    def _pairs_suffice(self) -> "Dedup":
        if self.rule in ("greedy", "connected-components"):
            if self.pairs_above is None:
                raise ValueError(f"the rule {self.rule} needs `pairs_above`")
            if self.threshold < self.pairs_above:
                raise ValueError(
                    f"threshold {self.threshold} is below pairs_above {self.pairs_above}: pairs "
                    "between them are not stored; lower `pairs_above`"
                )
        if not self.embed and self.rule != "none":
            raise ValueError(f"the rule {self.rule} needs embeddings: `embed: false` needs `none`")
        if self.jobs > self.clusters:
            raise ValueError(f"jobs {self.jobs} share clusters {self.clusters}; lower `jobs`")
        if self.sample < self.clusters:
            raise ValueError(f"sample {self.sample} is smaller than clusters {self.clusters}")
        return self


_DRIVING = "Driving test sets (the largest similarity counts)."


class RandRule(Block):
    """A random part of some points; nested in `keep`."""

    recipe: Literal["rand"] = Field(description="Selects this recipe.")
    keep: Size | UnsizedSplit = Field(
        description="Points to keep: a count, a share (a float up to 1.0) of the candidates (the "
        "de-duplicated pool), or the name of a split of no fixed size to be as large as (a "
        "size-matched control)."
    )
    seed: int = Field(default=0, description="Seed of the order.")


class NearRule(Block):
    """Near-pruning: keep the points least similar to the test sets."""

    recipe: Literal["near"] = Field(description="Selects this recipe.")
    keep: Size | UnsizedSplit = Field(description="As for `rand`.")
    sets: list[TestSetName] = Field(min_length=1, description=_DRIVING)


class FarRule(Block):
    """Far-pruning: keep the points most similar to the test sets."""

    recipe: Literal["far"] = Field(description="Selects this recipe.")
    keep: Size | UnsizedSplit = Field(description="As for `rand`.")
    sets: list[TestSetName] = Field(min_length=1, description="Driving test sets.")
    combine: Literal["max", "quota", "union"] = Field(
        default="max",
        description="Order by several sets. `max`: the largest similarity to any of them; "
        "`quota`: points belong to their most similar set and the sets take turns, so each gets "
        "an equal share; `union`: the sets take turns over their own lists of most similar points, "
        "and a point of several lists counts once.",
    )


class PrunedRule(Block):
    """Similarity-gap pruning: remove what is closer to a test image than the reference set is."""

    recipe: Literal["pruned"] = Field(description="Selects this recipe.")
    sets: list[TestSetName] = Field(
        min_length=1, description="Driving test sets; several remove the union (combined-pruned)."
    )
    tolerance: float = Field(
        default=0.0, description="Remove iff s(t_i, x) - s_i(reference) > tolerance, for some i."
    )


ReferenceRule = Annotated[RandRule | NearRule | FarRule | PrunedRule, Field(discriminator="recipe")]


class Recipe(Seeded):
    """What every split recipe declares."""

    reference: bool | ReferenceRule = Field(
        default=True,
        description="Add the reference set to the training data; or a recipe (rand, near, far, "
        "pruned) that says which part of it. `pruned` needs a negative tolerance to remove "
        "anything: no reference point is closer than the closest.",
    )

    @model_validator(mode="after")
    def _a_size_of_its_own(self) -> "Recipe":
        if isinstance(getattr(self.reference, "keep", None), str):
            raise ValueError("reference.keep: give a count or a share")
        return self


class Full(Recipe):
    """The whole pool after de-duplication."""

    recipe: Literal["full"] = Field(description="Selects this recipe.")


class Nothing(Recipe):
    """No pool point: the reference set alone."""

    recipe: Literal["none"] = Field(description="Selects this recipe.")


class Rand(Recipe, RandRule):
    """A random part of the pool; nested in `keep`."""


class Near(Recipe, NearRule):
    """Near-pruning: keep the points least similar to the test sets."""


class Far(Recipe, FarRule):
    """Far-pruning: keep the points most similar to the test sets."""


class Pruned(Recipe, PrunedRule):
    """Similarity-gap pruning: remove what is closer to a test image than the reference set is."""


Split = Annotated[Full | Nothing | Rand | Near | Far | Pruned | Mix, Field(discriminator="recipe")]
