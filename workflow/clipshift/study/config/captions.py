"""Configuration of captions and labels: fields of the data, matchers, and corpora made of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import MatcherName

# The name of OpenAI's 80 templates for ImageNet.
OPENAI_IMAGENET = "openai_imagenet"
CaptionField = Literal["title", "description", "tags"]
CAPTION_FIELDS: tuple[CaptionField, ...] = ("title", "description", "tags")


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

    later = frozenset({"separator", "texts"})

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
    texts: list[CaptionField] = Field(
        default=[],
        description="An image that has no text in any of these fields is left out, whatever its "
        "caption is made of: so that models of other captions train on exactly the same images.",
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
        if self.texts and self.fields:
            raise ValueError(
                "`texts` is for captions that are no `fields`; an image without any text in its "
                "`fields` is left out in any case"
            )
        return self

    @property
    def captioned(self) -> bool:
        """Whether its samples have a caption."""
        return bool(self.fields or self.template)
