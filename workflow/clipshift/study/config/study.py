"""The typed configuration: one model, extra keys forbidden, every key explained where it is.

`config/README.md` is generated from this module (`clipshift config-docs`), so a description here
is the description that users read. Imported while the Snakefile is parsed, by every cluster job:
nothing heavy belongs here.
"""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clipshift.study.config import causes
from clipshift.study.config.causes import Causes
from clipshift.study.config.costs import Costs
from clipshift.study.config.data import Block, Holdout, Package, Rendering, Source
from clipshift.study.config.domains import Domains
from clipshift.study.config.encoders import Encoder
from clipshift.study.config.evaluation import Evaluation
from clipshift.study.config.figures import Figures
from clipshift.study.config.folders import (
    AnyFolder,
    AnyPool,
    AnySet,
    Folder,
    takes,
)
from clipshift.study.config.names import EncoderName, ModelName, Name, PoolName, SetName
from clipshift.study.config.numbers import Ascending, Seeds, Similarity
from clipshift.study.config.references import check, references
from clipshift.study.config.robustness import Robustness
from clipshift.study.config.scale import Scale
from clipshift.study.config.splits import Dedup, Resharding, Split, refuse_circles
from clipshift.study.config.trainings import AnyTraining


class Neighbours(Block):
    """What is known of each test image's surroundings in the training data."""

    k: int = Field(
        default=8, ge=1, le=1000, description="Nearest training images kept per test image."
    )
    grid: Annotated[list[Similarity], Ascending] = Field(
        default=[0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975],
        min_length=1,
        description="Similarities, ascending, above which training images are counted.",
    )


class Config(Block):
    """A study: one configuration of the one chain."""

    study: Name = Field(
        description="Name of the study: the report's title, and whose files are whose where "
        "several studies share a folder (docs/formats.md)."
    )
    data: str = Field(
        default="data", description="Folder of the data that the user already has (`folder`)."
    )
    packages: dict[Name, Package] = Field(default={}, description="Files to fetch, by short name.")
    sources: dict[Name, Source] = Field(default={}, description="Sources of image-caption pairs.")
    rendering: Rendering = Field(default=Rendering(), description="How images become pixels.")
    classes: dict[str, list[str]] = Field(
        default={},
        description="Class name -> category paths (`family/category[/concept]`); the longest match "
        "wins. The order is the order of the class indices.",
    )
    holdout: Holdout | None = Field(
        default=None, description="Which concepts are kept for testing (where sources are taken)."
    )
    pools: dict[Name, AnyPool] = Field(min_length=1, description="Pools.")
    sets: dict[Name, AnySet] = Field(min_length=1, description="Test sets and reference sets.")
    encoders: dict[Name, Encoder] = Field(min_length=1, description="Image encoders.")
    pool: PoolName = Field(description="The pool that the splits are made of.")
    reference: SetName = Field(description="The reference set of the similarity gap.")
    reference_caption: str = Field(
        default="a photo of a {class}",
        description="Caption of the reference set's images in the training data; `{caption}` is "
        "the source's own.",
    )
    test_images: Literal["drop", "keep"] | None = Field(
        default=None,
        description="Samples of a split whose bytes are those of a test image: `drop` leaves them "
        "out of trainings, `keep` trains on them. Either counts them, and evaluations give the "
        "accuracy with and without such images. Default: `drop` where the pool is built from "
        "sources, `keep` where the user brings it. Another value trains again.",
    )
    agree: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Rows of two data (embeddings or labels that the user has, and samples) are "
        "joined by one thing (key, URL) and checked by what else both know (URL, caption, uid, "
        "hash): the share of the rows for which that must agree. 0 checks nothing.",
    )
    encoder: EncoderName = Field(description="The encoder that measures similarity.")
    dedup: Dedup = Field(default=Dedup(), description="De-duplication.")
    neighbours: Neighbours = Field(default=Neighbours(), description="Neighbours and density.")
    splits: dict[Name, Split] = Field(
        min_length=1, description="Split recipes; a name with `{key}` is a sweep, see above."
    )
    reshard: dict[Name, Resharding] = Field(
        default={}, description="Tars of what splits keep, written once for all their trainings."
    )
    models: dict[Name, AnyTraining] = Field(min_length=1, description="Models to train.")
    model: ModelName = Field(description="The model of `results/eval/{split}.json`.")
    seeds: Seeds = Field(default=[0], min_length=1, description="Training seeds; one model each.")
    evaluation: Evaluation = Field(default=Evaluation(), description="Zero-shot evaluation.")
    domains: Domains | None = Field(
        default=None, description="Study B: natural images and renditions, clean test sets."
    )
    causes: Causes = Field(default=Causes(), description="Controlled trainings.")
    figures: Figures = Field(default=Figures(), description="Figures and tables.")
    robustness: Robustness = Field(
        default=Robustness(), description="Effective robustness of published models."
    )
    costs: Costs = Field(default=Costs(), description="What `clipshift plan` reckons with.")

    scale: Scale | None = Field(
        default=None,
        description="The study made smaller, for a rehearsal (docs/rehearsal.md).",
    )

    @property
    def test_sets(self) -> list[str]:
        """Names of the sets in the role of test, in the order of the file."""
        return [name for name, s in self.sets.items() if s.role == "test"]

    @property
    def folders(self) -> dict[str, AnyFolder]:
        """Pools and sets that the user already has, by name."""
        blocks = {**self.pools, **self.sets}
        return {name: block for name, block in blocks.items() if isinstance(block, Folder)}

    @property
    def domain_folders(self) -> dict[str, AnyFolder]:
        """Those of the folders that only study B reads."""
        ours = {self.pool, self.reference, *self.test_sets}
        return {name: block for name, block in self.folders.items() if name not in ours}

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Pool -> configuration's key -> points that a split keeps of it, where it is a count."""
        sizes = {f"splits.{name}": split.size for name, split in self.splits.items()}
        return {self.pool: {key: size for key, size in sizes.items() if isinstance(size, int)}}

    def class_paths(self, *blocks: Any) -> dict[str, list[str]]:
        """Those of the class paths that the sources of some data sets can match, by class.

        A class of another family is none of their parameters: it may come and go.
        """
        families = {self.sources[take.source].family for block in blocks for take in takes(block)}
        met = {
            name: [path for path in paths if path.split("/")[0] in families]
            for name, paths in self.classes.items()
        }
        return {name: paths for name, paths in met.items() if paths}

    def words_of(self, block: Any) -> dict[str, list[str]]:
        """Words of the classes that a set has; those of others are none of its parameters."""
        if not takes(block):
            return self.evaluation.words
        class_names = block.classes or self.class_paths(block)
        return {name: texts for name, texts in self.evaluation.words.items() if name in class_names}

    @property
    def guard(self) -> str:
        """What trainings do with test images among their samples."""
        return self.test_images or ("drop" if takes(self.pools[self.pool]) else "keep")

    def seeds_of(self, split: str) -> list[int]:
        """Training seeds of a split; none where no model is trained on it."""
        split_seeds = self.splits[split].seeds if split in self.splits else None
        return self.seeds if split_seeds is None else split_seeds

    def model_of(self, split: str) -> str:
        """The model whose evaluations stand for a split."""
        split_model = self.splits[split].model if split in self.splits else None
        return split_model or self.model

    def group_of(self, split: str) -> str | None:
        """The block of `reshard` whose tars a split's trainings read instead of the pool."""
        return next((name for name, g in self.reshard.items() if split in g.splits), None)

    @property
    def trained(self) -> list[str]:
        """Names of the splits on which models are trained, in the order of the file."""
        return [name for name in self.splits if self.seeds_of(name)]

    @model_validator(mode="after")
    def _names_exist(self) -> "Config":
        check(self, known(self))
        refuse_circles(self.splits)
        if self.sets[self.reference].role != "reference":
            raise ValueError(f"reference: the set {self.reference!r} needs `role: reference`")
        for key, encoder in self.encoders.items():
            run = encoder.trained
            if run and run.seed not in self.seeds_of(run.split):
                raise ValueError(f"encoders.{key}.seed: no model of that seed is trained")
        for key, split in self.splits.items():
            if split.by_domain and self.domains is None:
                raise ValueError(
                    f"splits.{key}: the recipe `{split.recipe}` needs the block `domains`"
                )
        if self.domains:
            _check_domains(self, self.domains)
        if self.encoders[self.encoder].trained:
            raise ValueError(
                f"encoder: {self.encoder!r} is trained on a split that it would have to make"
            )
        vectors = self.encoders[self.encoder].vectors
        if vectors is not None and (lacking := {self.pool, *self.sets} - vectors.keys()):
            raise ValueError(f"encoders.{self.encoder}.folders: none for {sorted(lacking)}")
        if clash := set(self.pools) & set(self.sets):
            raise ValueError(f"pools and sets share the names {sorted(clash)}")
        if clash := set(self.splits) & {*self.pools, *self.sets}:
            raise ValueError(f"splits share the names {sorted(clash)} with pools or sets")
        return self

    @model_validator(mode="after")
    def _resharded_once(self) -> "Config":
        trained = {*self.trained, *(run.split for run in self.causes.runs)}
        met: dict[str, str] = {}
        for key, block in self.reshard.items():
            for split in block.splits:
                if split not in trained:
                    raise ValueError(f"reshard.{key}.splits: no model is trained on {split!r}")
                if split in met:
                    raise ValueError(f"reshard.{key}.splits: {split!r} is in {met[split]!r}, too")
                met[split] = key
        return self

    @model_validator(mode="after")
    def _controlled(self) -> "Config":
        causes.check(self)
        return self

    @model_validator(mode="after")
    def _built_or_outside(self) -> "Config":
        built = [n for n, b in {**self.pools, **self.sets}.items() if takes(b)]
        for key, value in (("classes", self.classes), ("holdout", self.holdout)):
            if built and not value:
                raise ValueError(f"{key}: needed by what is taken from sources: {built}")
        return self


def _check_domains(c: Config, block: Domains) -> None:
    for key, classifier in block.classifiers.items():
        if why := classifier.refuses(c.encoders[classifier.encoder]):
            raise ValueError(f"domains.classifiers.{key}: {why}; {classifier.encoder!r} has none")
    if block.pool_of and c.dedup.rule == "none":
        raise ValueError("domains.pool_of: nothing of the pool is a duplicate (`dedup.rule: none`)")
    if learned := [n for n in block.benchmarks if n in block.labels.datasets]:
        raise ValueError(
            f"domains.benchmarks.{learned[0]}: classifiers learn from this set; its labels are "
            "those of `domains.labels`"
        )


def source_packages(source: Any) -> list[str]:
    """Short names of the packages that a source reads, sorted."""
    return sorted({name for _, kind, name in references(source) if kind == "package"})


def known(c: Config) -> dict[str, Collection[str] | None]:
    """The names of each kind of reference; None where they are known only with the data."""
    domains, blocks = c.domains, c.causes
    trained, tests = c.trained, c.test_sets
    labelled = [n for n, corpus in blocks.corpora.items() if corpus.labels is not None]
    conditions = [f"{split}-{model}" for split in trained for model in c.models]
    return {
        "package": c.packages,
        "source": c.sources,
        "captioned data": [*c.sources, *c.pools],
        "class": c.classes or None,
        "configured class": c.classes,
        "pool": c.pools,
        "set": c.sets,
        "test set": tests,
        "measured set": [*tests, *blocks.subsets],
        "dataset": [*c.pools, *c.sets],
        "encoder": c.encoders,
        "encoder with a text tower": [n for n, e in c.encoders.items() if e.has_text_tower],
        "model": c.models,
        "any model": [*blocks.models, *c.models],
        "split": c.splits,
        "trained split": trained,
        "whole split": [n for n in trained if c.splits[n].reference_rule is None],
        "pruned split": [n for n in trained if c.splits[n].gap_tolerance is not None],
        "split of the whole pool": [n for n, s in c.splits.items() if s.keeps_all and not s.within],
        "split of no fixed size": [n for n, s in c.splits.items() if s.size is None],
        "base": [*c.splits, c.pool, c.reference],
        "classifier": domains.classifiers if domains else [],
        "clean set": domains.clean if domains else [],
        "corpus": blocks.corpora,
        "labelled corpus": labelled,
        "matcher": [*blocks.matchers, "table"],
        "evaluation protocol": blocks.heads,
        "condition": [*trained, *conditions, *(name for name, _ in causes.asked(blocks))],
        "baseline of `robustness`": c.robustness.baselines,
        "counted data": [*c.pools, *c.sets, *c.splits, *causes.chosen(blocks)],
    }
