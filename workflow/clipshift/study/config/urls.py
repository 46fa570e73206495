"""Configuration of a pool that is downloaded from a list of URLs."""

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, field_validator

from clipshift.study.config.data import Block
from clipshift.study.config.numbers import POINTS, PX, Scaled

# Suffixes of lists of text; `.gz` may follow.
TEXTS = (".csv", ".tsv", ".txt")


class Fetching(Block):
    """How images are downloaded and stored, by img2dataset."""

    px: int = Field(
        default=256, ge=16, le=PX, description="Larger images are stored at this size, pixels."
    )
    resize: Literal["keep_ratio", "keep_ratio_largest", "center_crop", "border", "no"] = Field(
        default="keep_ratio", description="img2dataset's `resize_mode`."
    )
    min_px: int = Field(
        default=0, ge=0, le=100_000, description="Images with a smaller side are refused."
    )
    timeout: float = Field(
        default=10,
        gt=0,
        le=86_400,
        description="Seconds for a whole answer; each redirect has them anew.",
    )
    retries: int = Field(default=0, ge=0, le=100, description="Further tries at once.")
    threads: int = Field(default=64, ge=1, le=1024, description="Requests at once, of one job.")
    max_bytes: int = Field(
        default=32 << 20, ge=1, le=1 << 40, description="Larger answers are refused, bytes."
    )
    block: int = Field(
        default=1000, ge=2, le=100_000, description="URLs after which a killed download goes on."
    )
    allow: list[str] = Field(
        default=[],
        description="Networks that are connected to although they are not public, e.g. "
        "`10.1.2.0/24` for a server of your own. All other private, loopback and link-local "
        "addresses are refused, also after a redirect.",
    )

    @field_validator("allow")
    @classmethod
    def _networks(cls, texts: list[str]) -> list[str]:
        for text in texts:
            ipaddress.ip_network(text)  # a ValueError says what is wrong
        return texts


class UrlPool(Block):
    """A pool that is downloaded: URLs and captions of parquet or csv files become its shards."""

    urls: list[str] = Field(
        min_length=1,
        description="Files with URLs and captions: `.parquet`, or text (`.csv`, `.tsv`, `.txt`, "
        "and the same with `.gz`) with commas, tabs, semicolons or `|`. Relative ones are below "
        "the top-level key `data`.",
    )
    url_column: str = Field(
        default="url",
        description='Column of the URLs; in text without a header its number, from `"0"`, which '
        "two columns (CC3M, CC12M) do not need.",
    )
    caption_column: str = Field(default="caption", description="Column of the captions.")
    shards: Annotated[int, Scaled("shards")] = Field(
        ge=1, le=100_000, description="Number of shards; a job downloads one."
    )
    fetching: Fetching = Field(default=Fetching(), description="How they are downloaded.")
    placeholder_urls: int | None = Field(
        default=10,
        ge=2,
        le=POINTS,
        description="An image whose very bytes come from at least so many URLs is a placeholder "
        "(“image removed”) and enters no shard; null: none is.",
    )

    @field_validator("urls")
    @classmethod
    def _readable(cls, files: list[str]) -> list[str]:
        for file in files:
            if not file.endswith(".parquet") and not file.removesuffix(".gz").endswith(TEXTS):
                raise ValueError(f"{file!r} ends in none of .parquet, {', '.join(TEXTS)}")
        return files
