"""Tables of text (csv, tsv, of Excel), read row by row: every row is a row, or is said why not.

What separates cells, and whether there is a header, follows from the file. A row that is no csv
costs its own line and none after it. Bytes that are not UTF-8 are kept (`surrogateescape`).
"""

import csv
import io
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO, cast

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, regular_file, unpacker

SEPARATORS = "\t,;|"
QUOTES = "quotes that are not those of csv"
# Characters of a cell, at most: a quote that is never closed must not fill memory.
CELL = 1 << 22
# Lines from which the separator is taken.
SAMPLE = 200
_EXCEL = "sep="  # Excel's first line, before the header
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class CsvFile:
    """How a file is to be read.

    Attributes:
        quoted: whether cells may stand in quotes; tables with tabs may hold quotes as they are.
        columns: their names; without a header their numbers, from 0.
        header: whether there is one.
    """

    path: Path
    separator: str
    quoted: bool
    columns: list[str]
    header: bool

    def rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Number of a row (from 1, without the header), and its cells or what is wrong with it.

        Raises:
            ClipshiftError: the file is damaged.
        """
        with _text(self.path) as stream:
            lines = _Lines(stream)
            lines.skip_excel()
            found = self._records(lines)
            if self.header:
                next(found, None)
            yield from enumerate(found, 1)

    def _records(self, lines: "_Lines") -> Iterator[list[str] | str]:
        csv.field_size_limit(CELL)
        width = len(self.columns)
        short = f"row has not the {width} fields of the {'header' if self.header else 'first row'}"
        while True:
            # Anew after each fault: the reader's state is lost with it.
            reader = csv.reader(
                lines,
                delimiter=self.separator,
                strict=self.quoted,
                quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            )
            while True:
                lines.taken.clear()
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    lines.give_back()
                    yield QUOTES
                    break
                if not row:
                    continue
                if len(row) != width:
                    several = len(lines.taken) > 1
                    lines.give_back()
                    yield QUOTES if several else short
                    if several:
                        break
                    continue
                yield row


class _Lines:
    """Lines of a stream, of which those of the last record can be given back but for the first."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._again: list[str] = []
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else self._stream.readline(CELL)
        if not line:
            raise StopIteration
        self.taken.append(line)
        return line

    def skip_excel(self) -> None:
        """Skip the line by which Excel is told the separator."""
        line = self._stream.readline(CELL)
        if not (line.lower().startswith(_EXCEL) and len(line.strip()) == len(_EXCEL) + 1):
            self._again = [line] if line else []

    def give_back(self) -> None:
        self._again += reversed(self.taken[1:])


def open_csv(path: Path, is_value: Callable[[str], bool]) -> CsvFile:
    """Look at a file, and decide how it is read.

    Args:
        is_value: of a cell, whether it cannot be the name of a column (a URL, say). A first row
            with one is no header.

    Raises:
        ClipshiftError: no file of text, it is damaged or empty, or two columns have one name.
    """
    csv.field_size_limit(CELL)
    with _text(path) as stream:
        start = _Lines(stream)
        start.skip_excel()
        lines = [line.rstrip("\r\n") for line in islice(start, SAMPLE)]
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ClipshiftError(f"{path} {explain(path) or 'holds no row'}")
    separator = _separator(lines)
    names = next(csv.reader([first], delimiter=separator))
    header = not any(map(is_value, names))
    columns = [_name(n) for n in names] if header else [str(i) for i in range(len(names))]
    if twice := sorted(name for name, n in Counter(columns).items() if name and n > 1):
        raise ClipshiftError(f"{path}: two columns are called {twice[0]!r}; rename one")
    found = CsvFile(path, separator, True, columns, header)
    if separator != "\t":
        return found
    bare = CsvFile(path, separator, False, columns, header)
    return max(found, bare, key=_good)


def _name(cell: str) -> str:
    """A column's name as a data base takes it: bytes that are not UTF-8, and NUL, as escapes."""
    name = cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name.strip().replace("\0", "\\x00")


def _separator(lines: list[str]) -> str:
    """The separator that gives the most lines the same cells, more than one, as the first has."""

    def fitting(separator: str) -> tuple[int, int]:
        try:
            rows = [row for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            return 0, 0
        width = len(rows[0]) if rows else 1
        same = sum(len(row) == width for row in rows)
        return (0, 0) if width == 1 else (same, width)

    return max(SEPARATORS, key=fitting)


def _good(file: CsvFile) -> int:
    return sum(not isinstance(row, str) for _, row in file.rows())


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Its text, decompressed, without the mark of its encoding and Excel's first line."""
    regular_file(path)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            unpack = unpacker(file.peek(8))
            if not unpack and (what := explain(path)):
                raise ClipshiftError(f"{path} is no table of text; it {what}")
            stream = stack.enter_context(unpack(file)) if unpack else file
            buffered = io.BufferedReader(cast(io.RawIOBase, stream), 1 << 20)
            encoding = "utf-16" if buffered.peek(2)[:2] in _UTF_16 else "utf-8-sig"
            yield io.TextIOWrapper(buffered, encoding, "surrogateescape", newline="")
    except (EOFError, OSError, UnicodeError, lzma.LZMAError, zlib.error) as error:
        raise ClipshiftError(f"{path} cannot be read ({error}); get it again") from error
