"""What a source adapter yields, and the registry of adapters."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One image with what its source says about it.

    Attributes:
        locator: path inside the source; unique, stable, independent of where it is unpacked.
        data: the file's bytes (svg, png, jpeg or webp).
        category: path of the source's own classification, e.g. `animals-nature/animal-bird`.
        concept: what is depicted; items of one concept are held out together.
        fields: values for the caption recipe.
        author: as the source names it, else empty.
    """

    locator: str
    data: bytes
    category: str
    concept: str
    fields: Mapping[str, str] = field(default_factory=dict)
    author: str = ""


@dataclass(frozen=True)
class Rejected:
    """A candidate that did not become an item, and why."""

    locator: str
    reason: str


# An adapter reads its unpacked packages ({short name: folder}) and yields in any order.
Adapter = Callable[..., Iterator[Item | Rejected]]


def locator(name: str, root: Path, file: Path) -> str:
    """Stable name of a file of the package `name` unpacked at `root`."""
    return f"{name}:{file.relative_to(root).as_posix()}"


def leads_out(file: Path, root: Path) -> bool:
    """Whether a file of a package is a link to what lies outside of it."""
    return not file.resolve().is_relative_to(root.resolve())


def words(text: str) -> str:
    """Field text for captions: hyphens and underscores become spaces, white space collapses."""
    return re.sub(r"[\s_-]+", " ", text).strip()


def caption(recipe: str, fields: Mapping[str, str]) -> str:
    """Fill a caption recipe; empty fields take the separator (`, `) beside them along.

    >>> caption("{a}, {b}, {c}", {"a": "dog", "b": "", "c": "pet"})
    'dog, pet'

    Raises:
        KeyError: the recipe names a field that the source lacks.
    """
    parts = (part.format_map(fields).strip() for part in recipe.split(", "))
    return ", ".join(part for part in parts if part)
