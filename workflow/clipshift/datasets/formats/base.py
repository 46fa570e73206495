"""A format of data sets: recognised by what lies there, read as records, a unit at a time."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.records import Record, Rejected

# What a column or a field may be read as.
FIELDS = ("key", "image", "caption", "label", "url", "uid", "sha256", "md5")
# From a field to the name that the data use for it: `--column caption=TEXT`.
Columns = Mapping[str, str]
# A value of the column `key`: keys are `UNIT/KEY`, for data sets whose units share keys.
KEY_OF_UNIT = "unit/key"


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
        left_out: what lies there and is not read, counted by what it is. Whole with `units()`,
            but for what only the contents of a unit show.
        said: one line about every guess, for people.
    """

    path: Path
    columns: Columns = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    name: ClassVar[str]  # the value of `format:`
    about: ClassVar[str]  # one line: what it is and who writes it
    rank: ClassVar[int] = 50  # formats are tried in this order: special ones before general ones
    numbered: ClassVar[bool] = False  # a label of digits is an index of `classes()`, not a name

    @classmethod
    @abstractmethod
    def recognise(cls, path: Path) -> str | None:
        """Why this may be the format of what lies at `path` (one clause), or None. Reads little."""

    @abstractmethod
    def units(self) -> list[Unit]:
        """The pieces, in natural order; reads listings and heads of files only."""

    @abstractmethod
    def read(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Every sample of a unit in order, or why it is none; its key may be empty or repeated."""

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Every sample of a unit in order, or why it is none; no two records share a key."""
        seen: set[str] = set()
        prefix = f"{unit.name}/" if self.columns.get("key") == KEY_OF_UNIT else ""
        for found in self.read(unit):
            if isinstance(found, Rejected):
                yield replace(found, key=prefix + found.key) if prefix else found
            elif not found.key:
                yield Rejected("", str(found.place), "no key")
            elif found.key in seen:
                yield Rejected(prefix + found.key, str(found.place), "key occurs twice")
            else:
                seen.add(found.key)
                yield replace(found, key=prefix + found.key) if prefix else found

    def all_records(self) -> Iterator[tuple[Unit, Record | Rejected]]:
        """The samples of all units; holds all keys in memory.

        Raises:
            ClipshiftError: two units share a key.
        """
        units: dict[str, str] = {}
        for unit in self.units():
            for found in self.records(unit):
                known = isinstance(found, Record) and units.setdefault(found.key, unit.name)
                if known and known != unit.name:
                    raise ClipshiftError(
                        f"{self.path}: {known} and {unit.name} share the key {found.key!r}; "
                        f"read one of them, or name the column key={KEY_OF_UNIT}"
                    )
                yield unit, found

    def classes(self) -> list[str] | None:
        """The names of the classes in the order of their indices; None: the data name none."""
        return None

    def tell(self, line: str) -> None:
        """Add to `said` what it does not say yet."""
        if line not in self.said:
            self.said.append(line)


def label_index(label: str, classes: list[str], numbered: bool) -> int:
    """The index of the class that a record's label names.

    Args:
        numbered: of its data set.

    Raises:
        ClipshiftError: none of the classes, or two.

    >>> label_index("1", ["0", "10", "1"], numbered=False), label_index("1", ["a", "b"], True)
    (2, 1)
    """
    if numbered and re.fullmatch("[0-9]{1,9}", label):
        if int(label) < len(classes):
            return int(label)
    elif classes.count(label) == 1:
        return classes.index(label)
    raise ClipshiftError(
        f"the label {label!r} names {'no class' if label not in classes else 'two classes'} of "
        f"{len(classes)}; give numbers from 0, in the order of the classes"
    )
