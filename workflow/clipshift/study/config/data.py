"""Configuration blocks of the data: packages, sources, drawing, hold-out, pools and sets."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from clipshift.study.config.names import ClassName, Name, PackageName, SourceName
from clipshift.study.config.numbers import POINTS, PX, Seed

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Block(BaseModel):
    """Base of every block: unknown keys are errors, values do not change after loading.

    Attributes:
        later: keys that a block got after studies were run with it. At their default they are left
            out of its JSON, so that what was made before them stays.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _no_booleans_as_numbers(cls, keys: Any) -> Any:
        for key, value in keys.items() if isinstance(keys, dict) else ():
            parts = value if isinstance(value, list) else [value]
            if any(isinstance(part, bool) for part in parts) and key in cls.model_fields:
                kinds = {*_kinds(cls.model_fields[key].annotation)}
                if kinds & {int, float} and bool not in kinds:
                    raise ValueError(f"{key}: expected a number, found true or false")
        return keys

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self._kept(handler(self))

    def _kept(self, dumped: dict[str, Any]) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            k: v
            for k, v in dumped.items()
            if k not in self.later or getattr(self, k) != fields[k].default
        }


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


class Package(Block):
    """A versioned file of a package registry, fetched by the registry's own client."""

    registry: Literal["npm", "debian", "pypi"] = Field(
        description="Client to fetch with: `npm pack`, `apt-get download` or `pip download`."
    )
    # Words of the clients' command lines: no options, addresses or folders.
    name: str = Field(
        pattern=r"^(@[A-Za-z0-9][A-Za-z0-9_.-]*/)?[A-Za-z0-9][A-Za-z0-9_.+-]*$",
        description="Name of the package in its registry.",
    )
    version: str = Field(
        pattern=r"^([0-9]+:)?[A-Za-z0-9][A-Za-z0-9_.+~!-]*$", description="Exact version."
    )
    sha256: Sha256 = Field(description="SHA-256 of the fetched file; anything else is refused.")


class SourceBase(Block):
    """What every source of image-caption pairs declares."""

    family: Name = Field(
        description="Concepts are shared, and held out together, within a family. "
        "It is also the first part of every category path of this source."
    )
    domain: str = Field(description="Visual domain, e.g. photo, drawing, line drawing, rendering.")
    licence: str = Field(description="Licence of the images, kept per sample and reported.")
    origin: str = Field(description="Where the images come from, for the report.")
    caption: str = Field(
        description="Caption recipe: `{field}` placeholders filled from the source's fields. "
        "Empty fields and the separators around them vanish."
    )
    drop: list[str] = Field(
        default=[], description="Category paths (or parents of them) left out, with a count."
    )
    only: str | None = Field(
        default=None, description="Regular expression; items whose locator lacks it are left out."
    )


class EmojiSource(SourceBase):
    """One drawing style of the Unicode emoji, labelled by OpenMoji's table.

    Caption fields: `annotation`, `group`, `subgroup`, `tags`.
    """

    adapter: Literal["emoji"] = Field(description="Selects this kind of source.")
    labels: PackageName = Field(description="Package with `data/openmoji.json`.")
    pictures: PackageName = Field(description="Package with the images.")
    layout: Literal["files", "iconify"] = Field(
        description="`files`: one file per code point; `iconify`: one icons.json and chars.json."
    )
    folder: str = Field(default="package", description="Folder of the images inside the package.")


class SidecarSource(SourceBase):
    """A folder of images with the caption in the first line of a `.txt` beside each.

    Caption fields: `title` (that line), `category` (the path as words), `kind` (its last part).
    """

    adapter: Literal["sidecar"] = Field(description="Selects this kind of source.")
    package: PackageName = Field(description="Package with the folder.")
    folder: str = Field(description="Folder inside the unpacked package.")
    suffix: Literal[".png", ".svg", ".jpg"] = Field(description="Images to take.")


class OpenclipartSource(SourceBase):
    """A tree of svg files with title, keywords and description in their RDF metadata.

    Caption fields: `title`, `description`, `keywords`, `category` (the path as words), `kind`.
    """

    adapter: Literal["openclipart"] = Field(description="Selects this kind of source.")
    package: PackageName = Field(description="Package with the tree.")
    folder: str = Field(description="Folder inside the unpacked package.")


class TableSource(SourceBase):
    """Images named by a code, described by a csv of another package (or the same).

    Caption fields: the columns of the csv, and `category`.
    """

    adapter: Literal["table"] = Field(description="Selects this kind of source.")
    pictures: PackageName = Field(description="Package with the images.")
    folder: str = Field(description="Folder of the images.")
    suffix: str = Field(description="Their suffix, e.g. `.jpeg`.")
    table: PackageName = Field(description="Package with the csv.")
    csv: str = Field(description="Path of the csv inside its package.")
    code: str = Field(description="Column that names the image.")
    concept: str = Field(
        description="Column that holds the concept: its text up to the first comma, lower-cased."
    )
    category_letters: int = Field(
        default=1, ge=1, le=100, description="Leading characters of the code that are the category."
    )


class WebdatasetSource(SourceBase):
    """A local folder of webdataset tars, e.g. written by img2dataset.

    Caption fields: `text` (the `.txt`), and the fields of the `.json`.
    """

    adapter: Literal["webdataset"] = Field(description="Selects this kind of source.")
    folder: str = Field(description="Folder with `*.tar`: image, `.txt` caption, `.json` fields.")
    category: str = Field(
        default="category", description="json field that holds the category path."
    )
    concept: str = Field(default="concept", description="json field that holds the concept.")


Source = Annotated[
    EmojiSource | SidecarSource | OpenclipartSource | TableSource | WebdatasetSource,
    Field(discriminator="adapter"),
]


class Rendering(Block):
    """How images become pixels: the same for every source of a study."""

    px: int = Field(
        default=160, ge=16, le=PX, description="Side of the stored square image, pixels."
    )
    background: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")] = Field(
        default="#ffffff",
        description="Colour behind transparent images: of the sources that are drawn, and of the "
        "user's own images wherever they are decoded (embedding, training, evaluation).",
    )
    margin: float = Field(
        default=0.04, ge=0, lt=0.5, description="Border around a cut-out, as a share of the side."
    )
    quality: int = Field(default=95, ge=1, le=100, description="JPEG quality (4:4:4).")

    @property
    def shared(self) -> dict[str, str]:
        """What jobs that decode images are told; nothing by default, so their parameters stay."""
        return {} if self.background == "#ffffff" else {"background": self.background}


class Holdout(Block):
    """Which concepts are kept for testing: whole concepts, never single images."""

    fraction: float = Field(gt=0, lt=1, description="Share of the classed concepts held out.")
    seed: Seed = Field(default=0, description="Seed of the split of concepts.")


class Take(Block):
    """Which items of a source go into a pool or a set."""

    source: SourceName = Field(description="Name of the source.")
    concepts: Literal["all", "held-out", "not-held-out"] = Field(
        default="all", description="Keep all concepts, or one side of the hold-out."
    )
    classed: bool | None = Field(
        default=None, description="true: only items of a class; false: only items of none."
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=POINTS,
        description="At most this many items, chosen by a seeded hash of the key.",
    )


class Pool(Block):
    """The large, noisy, unlabelled training set that is pruned."""

    take: list[Take] = Field(min_length=1, description="What it is made of.")
    shards: int = Field(ge=1, le=100_000, description="Number of shards.")


class TestSet(Block):
    """A labelled set in CLIP_benchmark's webdataset layout: a test set, or a reference set."""

    __test__ = False  # pytest would collect it by its name

    take: list[Take] = Field(min_length=1, description="What it is made of (classed items only).")
    role: Literal["test", "reference", "domain"] = Field(
        default="test",
        description="`reference`: labelled training data, the role of ImageNet-Train; `domain`: a "
        "test set of study B only, which the pool is not compared with.",
    )
    minimum_per_class: int = Field(
        default=1,
        ge=1,
        le=POINTS,
        description="Refuse to build the set with fewer items in any of its classes.",
    )
    classes: list[ClassName] | None = Field(
        default=None, description="Restrict the set to these classes (default: all of the study)."
    )

    @property
    def split(self) -> str:
        """CLIP_benchmark's name of the folder of the tars."""
        return "train" if self.role == "reference" else "test"
