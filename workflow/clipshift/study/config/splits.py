"""Configuration blocks of what a training set is made of: de-duplication and split recipes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import SplitName
from clipshift.study.config.numbers import POINTS, Scaled, Seed, Similarity
from clipshift.study.config.recipe_base import Rule as RecipeRule
from clipshift.study.config.recipe_base import Seeded, recipe, reference_rule

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
    clusters: Annotated[int, Scaled("images")] = Field(
        default=1,
        ge=1,
        le=10_000_000,
        description="Clusters (k-means) within which points are compared; 1 compares all pairs.",
    )
    sample: Annotated[int, Scaled("images")] = Field(
        default=256_000,
        ge=1,
        le=POINTS,
        description="Points that the clusters are fitted on (by key, seed).",
    )
    iterations: int = Field(default=20, ge=1, le=1_000_000, description="Iterations of k-means.")
    seed: Seed = Field(default=0, description="Seed of the samples and of k-means.")
    jobs: Annotated[int, Scaled("shards")] = Field(
        default=1, ge=1, le=100_000, description="Jobs that share the clusters."
    )
    pairs_above: Similarity | None = Field(
        default=None,
        description="Store all pairs more similar than this: what `greedy` and "
        "`connected-components` read, for thresholds not below it. Null stores none.",
    )
    check: int = Field(
        default=1000,
        ge=1,
        le=POINTS,
        description="Points compared with the whole pool, for the record's recall and precision.",
    )
    sweep: list[Similarity] = Field(
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


def refuse_circles(splits: Mapping[str, Seeded]) -> None:
    """
    Raises:
        ValueError: a split chooses within itself, through whatever others.
    """
    for name in splits:
        chain: list[str] = [name]
        while outer := splits[chain[-1]].within:
            if outer in chain:
                raise ValueError(f"splits.{name}.within: {' in '.join([*chain, outer])}: a circle")
            chain.append(outer)


class Resharding(Block):
    """Tars of the pool's samples that some splits keep, which their trainings read instead of it.

    The pool is read once. A training reads all of these tars and passes over what other splits
    keep, so splits of similar sizes belong together.
    """

    splits: list[SplitName] = Field(
        min_length=1,
        description="Splits that are trained; each in one block at most. `*` in a name: all that "
        "fit and are trained. A split that is added or changed makes the tars and all their "
        "trainings anew: give it a block of its own. One that is taken out plans nothing for the "
        "others.",
    )
    samples: int = Field(
        default=10_000,
        ge=1,
        le=POINTS,
        description="Samples of a tar, at most; more where a shard of the pool would fill more "
        "than 256 tars.",
    )


if TYPE_CHECKING:
    ReferenceRule = RecipeRule
    Split = Seeded
else:
    # The blocks of `splits.recipes`, each in a file of its own.
    ReferenceRule = reference_rule.union("recipe")
    for block in recipe.blocks.values():
        block.model_rebuild(_types_namespace={"ReferenceRule": ReferenceRule})
    Split = recipe.union("recipe")
