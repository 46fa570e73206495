"""Configuration blocks of data that the user already has, as folders outside the project.

A pool or a set is either built from sources (`take`) or such a folder (`folder`); a pool may also
lie in object storage (`storage`) or be downloaded (`urls`). Which of them a block is follows from
its keys; `AnyPool` and `AnySet` are the types that a configuration holds. Keys alone decide which
files a study has, so it is planned where the data are not.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from clipshift.study.config.data import Block, Pool, TestSet
from clipshift.study.config.numbers import POINTS, Scaled, Share
from clipshift.study.config.urls import UrlPool

# Begins the name of a file below the folder `data` (see `tars`).
EXTERNAL = "data:"
# Environment variable that tells the steps where that folder is.
DATA_VARIABLE = "CLIPSHIFT_DATA"
# The same for objects in storage: how their names begin, and where Snakemake puts them.
STORED = "s3://"
STORAGE_VARIABLE = "CLIPSHIFT_STORAGE"
# The format of a set that is read where it lies.
CLIP_BENCHMARK = "clip_benchmark"
# Finds out the format when the data are opened.
ANY = "any"


class Folder(Block):
    """What every folder of the user's declares."""

    folder: str = Field(
        description="The folder. A relative one is below the top-level key `data`, so that "
        "`--config data=/somewhere` moves all of them; nothing is computed again then."
    )
    samples: Annotated[int, Scaled("samples")] = Field(
        ge=1, le=POINTS, description="Number of samples expected."
    )
    obtain: str = Field(
        default="", description="How to get it; printed where the folder is missing or incomplete."
    )


class Readable(Folder):
    """What is read in one of the formats of docs/formats.md; `folder` may be a file."""

    later = frozenset({"format", "columns", "units", "class_names", "part", "exclude"})

    format: str = Field(default=ANY, description="The format; `any`: the one that is recognised.")
    columns: dict[str, str] = Field(
        default={},
        description="Fields of the data by other names than the format's: "
        "`{caption: TEXT, image: path, label: wnid, key: id}`.",
    )
    units: str = Field(
        default="*",
        description="Which of the folder's tars or tables are read: a pattern of their names, "
        "such as `train-*`.",
    )
    class_names: str | None = Field(
        default=None,
        description="File with a class name on each line, in the order of the labels (a relative "
        "path is below the key `data`). Default: those that the data name.",
    )

    part: tuple[Share, Share] | None = Field(
        default=None,
        description="A range of every class in a seeded order, such as `[0, 0.2]`: blocks of the "
        "same folder with ranges that do not overlap share no sample. Default: all.",
    )
    exclude: list[str] = Field(
        default=[], description="Patterns of keys that are not read, such as `sketch/*`."
    )

    @model_validator(mode="after")
    def _part_is_a_range(self) -> "Readable":
        if self.part and not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError(f"`part` is a range within [0, 1], found {list(self.part)}")
        return self


class Tars(Block):
    """What every pool that img2dataset wrote declares."""

    tars: Annotated[int, Scaled("tars")] = Field(
        ge=1, le=100_000, description="Tars are numbered from 0 to one below this."
    )
    digits: int = Field(
        default=5,
        ge=1,
        le=12,
        description="Digits of the tars' numbers: 5 of img2dataset itself, 8 of DataComp's pools.",
    )
    shards: Annotated[int, Scaled("shards")] = Field(
        ge=1,
        le=100_000,
        description="Groups of consecutive tars. A group is one sample table, one shard of "
        "embeddings and of margins, one job each: 10 to 30 minutes of embedding.",
    )

    @model_validator(mode="after")
    def _groups_are_not_empty(self) -> "Tars":
        if self.shards > self.tars:
            raise ValueError(f"{self.shards} shards share {self.tars} tars; lower `shards`")
        return self

    def group(self, shard: int) -> tuple[int, int]:
        """First and last tar of a group; groups differ by one tar at most.

        >>> pool = Tars(tars=5, shards=2)
        >>> pool.group(0), pool.group(1)
        ((0, 1), (2, 4))
        """
        first, end = (self.tars * i // self.shards for i in (shard, shard + 1))
        return first, end - 1

    @property
    def place(self) -> str:
        """How the words of its tars begin (see `clipshift.datasets.tar_paths`)."""
        raise NotImplementedError

    def word(self, first: int, last: int) -> str:
        """Some of its tars as a word."""
        return f"{self.place}/{{{first:0{self.digits}d}..{last:0{self.digits}d}}}.tar"


class FolderPool(Tars, Folder):
    """A pool that img2dataset wrote: `{00000..}.tar`, each with its `.parquet` and `_stats.json`.

    Numbers without a tar are counted, not refused. The tars are read where they are.
    """

    format: Literal["img2dataset"] = Field(default="img2dataset", description="The format.")

    @property
    def place(self) -> str:
        return EXTERNAL + self.folder


class StoredPool(Tars):
    """The same in object storage (S3): a job has the files that it reads fetched before it starts.

    See docs/object-storage.md.
    """

    storage: str = Field(
        pattern=rf"^{STORED}[^/{{}}?#\s]+(/[^/{{}}?#\s]+)*$",
        description="Where the tars lie, `s3://bucket/prefix`.",
    )
    samples: Annotated[int, Scaled("samples")] = Field(
        ge=1, le=POINTS, description="Number of samples expected."
    )
    gaps: Annotated[list[Annotated[int, Field(ge=0, lt=100_000)]], Scaled("gaps")] = Field(
        default=[],
        description="Numbers without a tar. Any other number that lacks a file is an error.",
    )

    @model_validator(mode="after")
    def _every_group_has_a_tar(self) -> "StoredPool":
        if outside := sorted(n for n in self.gaps if not 0 <= n < self.tars):
            raise ValueError(f"`gaps` are numbers from 0 to {self.tars - 1}, found {outside}")
        gaps = set(self.gaps)
        groups = (self.group(shard) for shard in range(self.shards))
        if empty := sum(gaps.issuperset(range(a, b + 1)) for a, b in groups):
            raise ValueError(f"{empty} of {self.shards} shards have no tar; lower `shards`")
        return self

    @property
    def place(self) -> str:
        return self.storage


# Pools and sets that are not made by the workflow, wherever they lie.
Outside = Folder | StoredPool


class CaptionedPool(Folder):
    """Images as `FOLDER/{class}/{file}`, with captions in a JSON that names class and file.

    As ImageNet-Captions is released: a list of `{filename, wnid, title, description, tags}`. What
    is in both becomes the pool; the rest is counted. `samples` is an estimate, for the preview.
    """

    captions: str = Field(description="The JSON; a relative path is below the key `data`.")
    classes: Annotated[int, Scaled("classes")] = Field(
        ge=2,
        le=10_000_000,
        description="Number of class folders expected; a label is the place of its folder's name "
        "among them in the order of names.",
    )
    shards: Annotated[int, Scaled("shards")] = Field(
        ge=1, le=100_000, description="Number of shards."
    )


class ConvertedPool(Readable):
    """A pool in any other format, or of one file, whose images are copied into shards.

    Images are copied as they are stored. What is no sample is counted by its reason.
    """

    shards: Annotated[int, Scaled("shards")] = Field(
        ge=1,
        le=100_000,
        description="Number of shards: one job of copying and one of embedding each.",
    )
    template: str | None = Field(
        default=None,
        description="Caption of labelled images, with `{class}`, and `{caption}` for their own. "
        "Default: their own.",
    )


class FolderSet(Readable):
    """A labelled set: in CLIP_benchmark's webdataset layout, or in any other `format`.

    `samples` and `classes` are checked against what the folder holds. CLIP_benchmark's layout,
    `{split}/{0..}.tar` and `classnames.txt`, is read where it lies; images of another are copied
    as they are stored.
    """

    format: str = Field(
        default=CLIP_BENCHMARK, description="The format; `any`: the one that is recognised."
    )
    split: str = Field(
        default="test",
        description="CLIP_benchmark's folder of the tars and of `nshards.txt`.",
    )
    classes: Annotated[int, Scaled("classes")] = Field(
        ge=2, le=10_000_000, description="Number of classes expected."
    )
    names: Literal["file", "openai_imagenet"] = Field(
        default="file",
        description="Class names for the prompts: those of the file or of the data, or OpenAI's "
        "for classes of ImageNet, from open_clip: by WordNet ids, or 1,000 in the same order.",
    )
    role: Literal["test", "reference", "domain"] = Field(
        default="test",
        description="`reference`: labelled training data, the role of ImageNet-Train; `domain`: a "
        "test set of study B only, which the pool is not compared with.",
    )

    @property
    def in_place(self) -> bool:
        """Whether its tars are read where they lie."""
        return self.format == CLIP_BENCHMARK

    @property
    def written_split(self) -> str:
        """The folder of the tars that are written of it, as CLIP_benchmark names them."""
        return "train" if self.role == "reference" else "test"

    @model_validator(mode="after")
    def _keys_of_one_format(self) -> "FolderSet":
        if not self.in_place and "split" in self.model_fields_set and self.split != "test":
            raise ValueError(
                "`split` is a folder of CLIP_benchmark's layout; give the `folder` (or file) of "
                "the split, or the `units` (tars, tables) that belong to it"
            )
        if self.in_place and (
            self.columns or self.class_names or self.units != "*" or self.part or self.exclude
        ):
            raise ValueError(
                "`columns`, `units`, `part`, `exclude` and `class_names` are of other formats "
                "than CLIP_benchmark's; add `format: any`, or the name of the format"
            )
        return self


AnyFolder = FolderPool | CaptionedPool | ConvertedPool | FolderSet


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    if "urls" in keys:
        return "downloaded"
    if "storage" in keys:
        return "stored"
    if "captions" in keys:
        return "captioned"
    return "outside" if "folder" in keys else "built"


def _kind_of_pool(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    kind = _kind(value)
    return "converted" if kind == "outside" and "tars" not in keys else kind


AnyPool = Annotated[
    Annotated[Pool, Tag("built")]
    | Annotated[FolderPool, Tag("outside")]
    | Annotated[StoredPool, Tag("stored")]
    | Annotated[UrlPool, Tag("downloaded")]
    | Annotated[CaptionedPool, Tag("captioned")]
    | Annotated[ConvertedPool, Tag("converted")],
    Discriminator(_kind_of_pool),
]
AnySet = Annotated[
    Annotated[TestSet, Tag("built")] | Annotated[FolderSet, Tag("outside")], Discriminator(_kind)
]


def takes(block: Pool | TestSet | Outside | UrlPool) -> list[Any]:
    """What a pool or a set takes from sources; nothing where it is none that is built."""
    return list(block.take) if isinstance(block, Pool | TestSet) else []
