"""What a fuzzed reader is: a small valid input, the product's reading of it, and an oracle."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar


class MustRefuse(Exception):
    """The oracle's word on an input that no reader may accept, e.g. a key that occurs twice."""


class Reader(ABC):
    """One way into the product.

    Attributes:
        name: `GROUP.WAY`; the table has a line for each group.
        names_input: whether it is given files, which a refusal must name.
    """

    name: ClassVar[str]
    names_input: ClassVar[bool] = True

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Write a small valid input; the same bytes each time."""

    def targets(self, folder: Path) -> list[Path]:
        """The files that are mutated, in a stable order."""
        return sorted(p for p in folder.rglob("*") if p.is_file())

    @abstractmethod
    def read(self, folder: Path, out: Path) -> Any:
        """What the product makes of the input, as plain data; `out` is an empty folder."""

    @abstractmethod
    def truth(self, folder: Path) -> Any:
        """The same by other means: numpy, pyarrow, json, csv and tarfile, without the product.

        Raises:
            MustRefuse: no reader may accept this input.
            Exception: these means cannot read it; then only the original's value is right.
        """

    def agrees(self, found: Any, wanted: Any) -> bool:
        """Whether the product's value is the wanted one, the oracle's or the original's."""
        return bool(found == wanted)


def as_text(value: Any) -> Any:
    """A cell as the product reads text: bytes are UTF-8, whole numbers are their digits."""
    if isinstance(value, bytes):
        return value.decode()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def cli(*words: object) -> None:
    """The command `clipshift WORDS`, in this process."""
    import sys

    from clipshift.apps.cli import main

    sys.argv = ["clipshift", *map(str, words)]
    main()
