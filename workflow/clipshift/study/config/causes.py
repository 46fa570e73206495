"""Configuration of controlled trainings: which property of the training makes a model robust?

`causes` says what is read as a caption and as a label (`fields`, `corpora`), which models are
trained on it (`models`), on which splits (`runs`), and how they are asked (`heads`). Everything
else, from sources to splits and test sets, is the study's own.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.evaluation import Templates
from clipshift.study.config.folders import Tars
from clipshift.study.config.names import (
    CorpusName,
    MatcherName,
    ModelName,
    Name,
    ProtocolName,
    Ref,
    SplitName,
    TestSetName,
)
from clipshift.study.config.numbers import POINTS, Ascending, Json, Scaled, Seed, Seeds, Share

# The name of OpenAI's 80 templates for ImageNet.
OPENAI_IMAGENET = "openai_imagenet"
CaptionField = Literal["title", "description", "tags"]
CAPTION_FIELDS: tuple[CaptionField, ...] = ("title", "description", "tags")


Captioned = Annotated[Name, Ref("captioned data")]
AnyModel = Annotated[Name, Ref("any model")]
# Of a class of the training.
Index = Annotated[int, Field(ge=0, lt=10_000_000)]
LabelledCorpus = Annotated[Name, Ref("labelled corpus")]


class Fields(Block):
    """Which of a source's own fields are title, description and tags of its images.

    Recipes as `sources.*.caption`: `{field}` placeholders; empty: the source has no such text.
    """

    later = frozenset({"url_encoded"})

    title: str = Field(default="", description="Recipe of the title.")
    description: str = Field(default="", description="Recipe of the description.")
    tags: str = Field(default="", description="Recipe of the tags.")
    url_encoded: bool = Field(
        default=False,
        description="For a pool that is a folder: its texts are URL-encoded, as those of YFCC100M "
        "(`red+fox%21`), and are decoded; the commas between tags stay.",
    )


class Matcher(Block):
    """Labels found in captions: which classes a text names."""

    names: Literal["openai", "wordnet"] | dict[str, list[str]] = Field(
        description="Names of the classes. `openai`: OpenAI's for ImageNet, of open_clip; "
        "`wordnet`: all lemmas of ImageNet's WordNet synsets; or class -> its names and synonyms."
    )
    case: bool = Field(default=True, description="Whether upper and lower case must agree.")
    word_boundary: bool = Field(
        default=True, description="Whether a name must stand as whole words."
    )
    multi: Literal["drop", "first", "all"] = Field(
        default="drop",
        description="A text that names several classes: `drop` the sample; the `first` named (of "
        "names that begin at one place, the longest); `all` of them, as equal parts of one label.",
    )
    fields: list[CaptionField] = Field(
        default=["title", "description"], min_length=1, description="Fields that are searched."
    )


class English(Block):
    """Which captions count as English. No rule is sure on a few words; each says what it does."""

    by: Literal["letters", "words", "py3langid"] = Field(
        default="letters",
        description="`letters`: share of the letters that are a to z (drops other scripts and "
        "many accents); `words`: share of the words that are in the file `words`; `py3langid`: its "
        "probability of English (`pip install py3langid`).",
    )
    least: float = Field(
        default=1.0, gt=0, le=1, description="Least share, or probability, of an English caption."
    )
    words: str | None = Field(default=None, description="A word a line, for `by: words`.")

    @model_validator(mode="after")
    def _has_words(self) -> "English":
        if (self.by == "words") != (self.words is not None):
            raise ValueError("`words` names the word list of `by: words`, and of nothing else")
        return self


class Corpus(Block):
    """What a training reads of each image: a caption, and a label where one is asked for.

    Images that lack what is asked for are left out, counted by reason.
    """

    later = frozenset({"separator"})

    fields: list[CaptionField] = Field(
        default=[],
        description="Fields of the caption, joined in this order; empty ones vanish. `[]`: no "
        "caption is needed (unless there is a `template`).",
    )
    separator: str = Field(default=", ", description="What is between two fields of a caption.")
    template: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Caption instead of fields, with `{class}` for the label. Of a list, one is "
        "drawn for each image, by a hash of its key; `openai_imagenet`: OpenAI's 80 for ImageNet.",
    )
    labels: Literal["table"] | MatcherName | None = Field(
        default=None,
        description="Labels of the data themselves (`table`), or found in captions: the name of a "
        "matcher. An image without one is left out. A CLIP model reads no label, but trains on "
        "the same images.",
    )
    language: English | None = Field(default=None, description="Keep English captions only.")
    banned: str | None = Field(
        default=None,
        description="File of banned words or phrases, one a line (case-blind, whole words): "
        "images with one in any field are left out. None is shipped.",
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Corpus":
        if self.template is not None:
            named = self.template == OPENAI_IMAGENET
            given = [self.template] if isinstance(self.template, str) else self.template
            lacking = [] if named else [text for text in given if "{class}" not in text]
            if self.fields or self.labels is None or lacking:
                raise ValueError(
                    "`template` needs {class} (or is openai_imagenet) and `labels`, and no `fields`"
                )
        elif self.language and not self.fields:
            raise ValueError("`language` judges the caption: name its `fields`")
        return self

    @property
    def captioned(self) -> bool:
        """Whether its samples have a caption."""
        return bool(self.fields or self.template)


class RunOf(Block):
    """A trained model, by name."""

    split: Name = Field(description="Its split.")
    model: Name = Field(description="Its model.")
    seed: Seed = Field(description="Its seed.")

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-s{self.seed}"


class TextTower(Block):
    """A text tower that begins with the weights of another run."""

    start: RunOf = Field(description="The run whose text tower it is.")
    frozen: bool = Field(default=False, description="Keep the weights (open_clip's `--lock-text`).")


class Controlled(Block):
    """A model that differs from another in one property of its training."""

    objective: Literal["clip", "cross_entropy", "simclr"] = Field(
        description="`clip`: open_clip's trainer; `cross_entropy`: the same vision tower and a "
        "linear layer on labels; `simclr`: the same tower, two views of each image, no text."
    )
    base: ModelName = Field(description="Model of `models` whose towers and settings it shares.")
    corpus: CorpusName = Field(description="What it reads: a corpus of `causes.corpora`.")
    changes: Annotated[Json, Scaled("training")] = Field(
        default={}, description="Other values of keys of the base."
    )
    text: TextTower | None = Field(
        default=None, description="For `clip`: start of the text tower (default: random)."
    )
    start: RunOf | None = Field(
        default=None,
        description="For `cross_entropy`: the run whose vision tower it starts from (default: "
        "random). A `simclr` run makes it SimCLR, then cross-entropy on labels.",
    )
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="For `cross_entropy` and `simclr`; `sgd`: Nesterov, 0.9."
    )
    milestones: Annotated[list[Share], Ascending] = Field(
        default=[],
        description="Shares of the training after which the learning rate falls to a tenth; `[]`: "
        "cosine, as the base.",
    )
    temperature: float = Field(default=0.1, gt=0, le=100, description="For `simclr`: of NT-Xent.")
    projection: int = Field(
        default=128, ge=2, le=100_000, description="For `simclr`: its output's width."
    )
    crop: float = Field(
        default=0.08, gt=0, le=1, description="For `simclr`: least area of a view's crop."
    )

    @model_validator(mode="after")
    def _fits_the_objective(self) -> "Controlled":
        if self.text and self.objective != "clip":
            raise ValueError("`text` starts the text tower of the objective `clip` only")
        if self.start and self.objective != "cross_entropy":
            raise ValueError("`start` starts the vision tower of `cross_entropy` only")
        return self


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


# The 200 classes of ImageNet-A and of ImageNet-R, as indices of ImageNet's 1,000.
Published = Literal["imagenet_a", "imagenet_r"]


class Subset(Block):
    """A test set restricted to some classes: images and answers. An axis for the same classes."""

    of: TestSetName = Field(description="The test set.")
    classes: Published | Annotated[list[str], Field(min_length=2)] = Field(
        description="Classes that are kept, by name; or those of ImageNet-A or ImageNet-R, for a "
        "set of ImageNet's 1,000."
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
    models: dict[Name, Controlled] = Field(default={}, description="Controlled models, by name.")
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
            if corpus and model.objective == "clip" and not corpus.captioned:
                raise ValueError(f"models.{key}: the corpus {model.corpus!r} has no captions")
            if corpus and model.objective == "cross_entropy" and corpus.labels is None:
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
        without_head = spec is not None and spec.objective != "simclr"
        names = [f"{r.split}-{r.model}"] * without_head
        names += [f"{r.split}-{r.model}-{head}" for head in r.heads]
        evaluated += [(name, r.seeds) for name in names]
    return evaluated


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
    outside = isinstance(c.pools.get(c.pool), Tars)
    for name, model in c.causes.models.items():
        settings = training(c, name)
        filters = settings is not None and settings.read == "filter"
        if filters and model.objective == "clip" and not outside:
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
    start = model and (model.text.start if model.text else model.start)
    return start.run if start else None


def training(c: Any, model: str) -> Any:
    """Settings of a controlled model: those of its base with its changes.

    Raises:
        ValueError: a change is no setting.
    """
    spec, base = c.causes.models[model], c.models.get(c.causes.models[model].base)
    if base is None:
        return None  # reported as a name that is none
    try:
        return type(base).model_validate(base.model_dump() | spec.changes)
    except ValueError as error:
        raise ValueError(f"causes.models.{model}.changes: {error}") from None
