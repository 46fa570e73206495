"""A format of data sets: recognised by what lies there, read as records, a unit at a time."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.records import Record, Rejected

# What a column or a field may be read as.
FIELDS = ("key", "image", "caption", "label", "url", "uid", "sha256", "md5")
# From a field to the name that the data use for it: `--column caption=TEXT`.
Columns = Mapping[str, str]


def columns_of(words: Sequence[str]) -> dict[str, str]:
    """The columns that words such as `caption=TEXT` name.

    Raises:
        ClipshiftError: no such field, or no name after it.
    """
    columns: dict[str, str] = {}
    for word in words:
        field_, _, name = word.partition("=")
        if field_ not in FIELDS or not name:
            raise ClipshiftError(
                f"{word!r}: expected FIELD=NAME, where FIELD is one of {', '.join(FIELDS)}"
            )
        columns[field_] = name
    return columns


@dataclass(frozen=True)
class Unit:
    """What is read at once, by one job: a tar, a table, or all files of a folder.

    Attributes:
        name: unique in the data set, stable, in natural order.
        samples: as far as known without reading the images; None: not known.
    """

    name: str
    files: tuple[Path, ...]
    samples: int | None = None


@dataclass
class Dataset(ABC):
    """A data set in one format.

    Attributes:
        path: a folder, or a file (a table, an annotation file).
        columns: the user's names of fields; what is not named is guessed, and `said`.
        left_out: what lies there and is not read, counted by what it is.
        said: one line about every guess, for people.
    """

    path: Path
    columns: Columns = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    name: ClassVar[str]  # the value of `format:`
    about: ClassVar[str]  # one line: what it is and who writes it

    @classmethod
    @abstractmethod
    def recognise(cls, path: Path) -> str | None:
        """Why this is the format of what lies at `path` (one clause), or None. Reads little."""

    @abstractmethod
    def units(self) -> list[Unit]:
        """The pieces, in natural order; reads listings and heads of files only."""

    @abstractmethod
    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Every sample of a unit in order, or why it is none."""

    def classes(self) -> list[str] | None:
        """The names of the classes in the order of their indices; None: the data name none."""
        return None
