"""Configuration of controlled trainings: which property of the training makes a model robust?

`causes` says what is read as a caption and as a label (`fields`, `corpora`), which models are
trained on it (`models`), on which splits (`runs`), and how they are asked (`heads`). Everything
else, from sources to splits and test sets, is the study's own.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from clipshift.study.config.captions import Corpus, Fields, Matcher
from clipshift.study.config.data import Block
from clipshift.study.config.evaluation import Templates
from clipshift.study.config.folders import Tars
from clipshift.study.config.names import (
    MatcherName,
    Name,
    ProtocolName,
    Ref,
    SplitName,
    TestSetName,
)
from clipshift.study.config.numbers import POINTS, Seed, Seeds
from clipshift.study.config.objective_base import Controlled, objective
from clipshift.study.config.trainings import Training, changed

# What stands for a protocol in the name of an evaluation after an epoch: no name of a head.
EPOCH = r"epoch(\d+)"
Captioned = Annotated[Name, Ref("captioned data")]
AnyModel = Annotated[Name, Ref("any model")]
# Of a class of the training.
Index = Annotated[int, Field(ge=0, lt=10_000_000)]
LabelledCorpus = Annotated[Name, Ref("labelled corpus")]


if TYPE_CHECKING:
    AnyControlled = Controlled
else:
    AnyControlled = objective.union("objective")


class PromptHead(Block):
    """Zero-shot classification by other prompts than the study's."""

    kind: Literal["prompts"] = Field(description="Selects this kind of head.")
    templates: Templates = Field(description="As `evaluation.templates`.")
    words: bool = Field(
        default=True, description="Whether the classes' words of `evaluation.words` are used."
    )


class LinearHead(Block):
    """A linear probe: logistic regression on the features of labelled training images."""

    kind: Literal["linear"] = Field(description="Selects this kind of head.")
    corpus: LabelledCorpus = Field(
        description="Corpus with labels; its images of the split are used."
    )
    most: int = Field(
        default=100_000, ge=2, le=POINTS, description="At most this many images, by a seeded hash."
    )
    c: float = Field(default=1.0, gt=0, le=1e12, description="Inverse strength of the L2 penalty.")
    iterations: int = Field(
        default=1000, ge=1, le=1_000_000, description="Most iterations of L-BFGS."
    )
    seed: Seed = Field(default=0, description="Seed of the choice of images.")


Head = Annotated[PromptHead | LinearHead, Field(discriminator="kind")]


# The 200 classes of ImageNet-A and of ImageNet-R, as indices of ImageNet's 1,000; the 113 of
# ObjectNet, of which some are several of ImageNet's.
Published = Literal["imagenet_a", "imagenet_r", "objectnet"]


class Subset(Block):
    """A test set restricted to some classes: images and answers. An axis for the same classes."""

    of: TestSetName = Field(description="The test set.")
    classes: Published | Annotated[list[str], Field(min_length=2)] = Field(
        description="Classes that are kept, by name; or those of ImageNet-A, ImageNet-R or "
        "ObjectNet, for a set of ImageNet's 1,000. Of classes that are one of ObjectNet's the "
        "largest score counts."
    )


class ControlledRuns(Block):
    """Runs: a model on a split, once per seed."""

    split: SplitName = Field(description="The split.")
    model: AnyModel = Field(description="A model of `causes.models`, or of `models`.")
    seeds: Seeds = Field(min_length=1, description="Training seeds.")
    heads: list[ProtocolName] = Field(
        default=[], description="Further heads to ask the models with."
    )


class Causes(Block):
    """Controlled trainings."""

    fields: dict[Captioned, Fields] = Field(
        default={}, description="Source, or pool that is a folder -> its caption fields."
    )
    matchers: dict[Name, Matcher] = Field(
        default={}, description="Ways to find labels in captions, by name (not `table`)."
    )
    corpora: dict[Name, Corpus] = Field(default={}, description="Corpora, by name.")
    models: dict[Name, AnyControlled] = Field(default={}, description="Controlled models, by name.")
    heads: dict[Name, Head] = Field(default={}, description="Heads, by name.")
    answers: dict[TestSetName, Published | dict[str, list[Index]]] = Field(
        default={},
        description="Test set -> which classes of the training stand for its own, for classifiers "
        "and probes: a published list, or class -> indices (the largest score counts). Default: "
        "the class of the same name.",
    )
    subsets: dict[Name, Subset] = Field(
        default={}, description="Test sets of fewer classes, measured beside the study's."
    )
    runs: list[ControlledRuns] = Field(default=[], description="Runs.")
    found: MatcherName | None = Field(
        default=None,
        description="Matcher by which `results/tables/causes_labels.csv` looks for the true class "
        "in each field, one field at a time.",
    )

    @model_validator(mode="after")
    def _corpora_suffice(self) -> "Causes":
        for key, model in self.models.items():
            corpus = self.corpora.get(model.corpus)
            if corpus and model.needs == "captions" and not corpus.captioned:
                raise ValueError(f"models.{key}: the corpus {model.corpus!r} has no captions")
            if corpus and model.needs == "labels" and corpus.labels is None:
                raise ValueError(f"models.{key}: the corpus {model.corpus!r} has no labels")
        named = [f"{r.split}-{r.model}" for r in self.runs]
        if twice := sorted({n for n in named if named.count(n) > 1}):
            raise ValueError(f"runs: {twice} are listed twice; give all their seeds at once")
        return self


def asked(causes: Causes) -> list[tuple[str, list[int]]]:
    """What is evaluated: `split-model` or `split-model-head`, and its seeds."""
    evaluated = []
    for r in causes.runs:
        spec = causes.models.get(r.model)
        without_head = spec is not None and spec.protocol is not None
        names = [f"{r.split}-{r.model}"] * without_head
        names += [f"{r.split}-{r.model}-{head}" for head in r.heads]
        evaluated += [(name, r.seeds) for name in names]
    return evaluated


def given_weights(causes: Causes) -> dict[str, str]:
    """The configuration's key -> the user's file of weights that a text tower begins with."""
    models = causes.models.items()
    return {f"causes.models.{name}.text.weights": m.given for name, m in models if m.given}


def chosen(causes: Causes) -> list[str]:
    """What corpora choose of splits for the runs: `split-corpus`."""
    pairs = ((r.split, causes.models.get(r.model)) for r in causes.runs)
    return list(dict.fromkeys(f"{split}-{spec.corpus}" for split, spec in pairs if spec))


def evaluations(name: str, seeds: Sequence[int]) -> list[str]:
    """The evaluations of the runs of what is asked, by name."""
    split, model, *head = name.split("-")
    return ["-".join([split, model, f"s{seed}", *head]) for seed in seeds]


def check(c: Any) -> None:
    """What references cannot say; called when a study's names are known.

    Raises:
        ValueError: names that clash, changes that make no model, a run that starts from itself.
    """
    for key, one, other in (
        ("models", c.causes.models, c.models),
        ("subsets", c.causes.subsets, {**c.sets, **c.pools}),
    ):
        if clash := sorted(set(one) & set(other)):
            raise ValueError(f"causes.{key}: the names {clash} are taken in this study")
    if clash := sorted(name for name in c.causes.heads if re.fullmatch(EPOCH, name)):
        raise ValueError(f"causes.heads: {clash} are names of evaluations after an epoch")
    outside = isinstance(c.pools.get(c.pool), Tars)
    for name, model in c.causes.models.items():
        if model.base not in c.models:
            continue  # reported as a name that is none
        settings = training(c, name)
        if reason := model.refused(settings):
            raise ValueError(f"causes.models.{name}: {reason}")
        if settings.read == "filter" and model.trainer == "clip" and not outside:
            raise ValueError(
                f"causes.models.{name}: `read: filter` needs a pool that is a folder of tars"
            )
    graph = {
        f"{r.split}-{r.model}-s{s}": _starts(c.causes.models.get(r.model))
        for r in c.causes.runs
        for s in r.seeds
    }
    runs = {f"{s}-{c.model}-s{seed}" for s in c.splits for seed in c.seeds_of(s)} | graph.keys()
    for name, model in c.causes.models.items():
        if (start := _starts(model)) and start not in runs:
            raise ValueError(f"causes.models.{name}: {start!r} is not one of {sorted(runs)}")
    for run, start in graph.items():
        seen, at = {run}, start
        while at:
            if at in seen:
                raise ValueError(f"causes.models: the run {run} starts from itself")
            seen.add(at)
            at = graph.get(at)


def _starts(model: Controlled | None) -> str | None:
    return model.initial.run if model and model.initial else None


def training(c: Any, model: str) -> Training:
    """Settings of a controlled model: those of its base with its changes.

    Raises:
        ValueError: a change is no setting.
    """
    spec = c.causes.models[model]
    base = c.models[spec.base]
    try:
        return changed(base, spec.changes)
    except ValueError as error:
        raise ValueError(f"causes.models.{model}.changes: {error}") from None
