"""Headers of a tar, checked before any number in them is believed.

Reads what tarfile reads of ustar, GNU and pax archives, with bounds: a member lies inside its file,
headers of a member take at most `MAX_HEADER`, no number is negative. Sparse files are named, never
expanded. Time and memory follow from the file's size alone.
"""

import io
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of the long names and pax records before a member
MAX_NAME = 4096  # bytes, as of a path on Linux

_ZEROS = bytes(BLOCK)
_OCTAL = re.compile(rb" *([0-7]*) *")
_DATA = frozenset(b"\0" + b"07")  # regular files
_LINKS = frozenset(b"123456")  # without data, whatever their size says
_PAX = frozenset(b"xX")
_EXTENDED = _PAX | frozenset(b"gLK")
_GLOBAL, _LONG_NAME, _SPARSE, _FOLDER = b"gLS5"


@dataclass(frozen=True, slots=True)
class Header:
    """A member: its name as in the archive, and where its bytes lie.

    Attributes:
        odd: why it is no regular file; None: it is one.
    """

    name: str
    offset: int
    size: int
    is_folder: bool = False
    odd: str | None = None


@dataclass
class _Before:
    """What the headers before a member say of it; of several the first one counts."""

    name: bytes = b""
    records: dict[bytes, bytes] = field(default_factory=dict)
    spent: int = 0

    def read(self, kind: int, size: int, stream: BinaryIO) -> None:
        self.spent += size
        if self.spent > MAX_HEADER:
            raise tarfile.ReadError(f"a header of more than {MAX_HEADER:,} bytes")
        text = stream.read(size)
        if kind == _GLOBAL:
            _refuse_global(_records(text))
        elif kind in _PAX:
            self.records = _records(text) | self.records
            self.name = self.name or self.records.get(b"path", b"").rstrip(b"/")
        elif kind == _LONG_NAME:
            self.name = self.name or text.partition(b"\0")[0]


def headers(stream: BinaryIO) -> Iterator[Header]:
    """Every member of a tar in order; the stream may be read elsewhere in between.

    Raises:
        tarfile.ReadError: truncated, damaged, or beyond the bounds.
    """
    end = stream.seek(0, io.SEEK_END)
    at, before = 0, _Before()
    while block := _block(stream, at):
        kind, size = block[156], _number(block[124:136])
        if kind in _EXTENDED:
            before.read(kind, size, stream)
            at += BLOCK + _padded(size)
            if at > end:
                raise tarfile.ReadError("unexpected end of data")
            continue
        found = _member(stream, block, at, before)
        if found.offset + found.size > end:
            raise tarfile.ReadError("unexpected end of data")
        yield found
        at, before = found.offset + _padded(found.size), _Before()
    if before.spent:
        raise tarfile.ReadError("a header without its member")
    if not _only_zeros(stream, at) or end - at < 2 * BLOCK:
        raise tarfile.ReadError("no end-of-archive mark")


def _member(stream: BinaryIO, block: bytes, at: int, before: _Before) -> Header:
    """The member whose header lies at a place."""
    kind, start = block[156], at + BLOCK
    sparse = any(key.startswith(b"GNU.sparse.") for key in before.records)
    if kind == _SPARSE:
        sparse, start = True, _after_map(stream, block, start)
    name = before.name or _ustar_name(block)
    if len(name) > MAX_NAME:
        raise tarfile.ReadError(f"a name of {len(name):,} bytes")
    given = before.records.get(b"size")
    size = _number(block[124:136]) if given is None else _digits(given)
    text = name.decode("utf-8", "surrogateescape")
    is_folder = kind == _FOLDER or (kind == 0 and block[:100].partition(b"\0")[0][-1:] == b"/")
    odd = "sparse file" if sparse else None if kind in _DATA else "no regular file"
    return Header(
        text.rstrip("/") if is_folder else text,
        start,
        0 if kind in _LINKS or is_folder else size,
        is_folder,
        odd,
    )


def _block(stream: BinaryIO, at: int) -> bytes:
    """The header at a place; empty at the end of the members."""
    stream.seek(at)
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise tarfile.ReadError("no end-of-archive mark" if at else "no whole header")
    if block == _ZEROS:
        return b""
    said, blank = _number(block[148:156]), block[:148] + b" " * 8 + block[156:]
    # Some old writers summed signed bytes.
    if said != sum(blank) and said != sum(struct.unpack(f"{BLOCK}b", blank)):
        raise tarfile.ReadError("a header's checksum is wrong")
    return block


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or base 256 where the first bit is set."""
    if field[0] in (0x80, 0xFF):
        if field[0] == 0xFF:
            raise tarfile.ReadError("a negative number in a header")
        return int.from_bytes(field[1:], "big")
    digits = _OCTAL.fullmatch(field.partition(b"\0")[0])
    if not digits:
        raise tarfile.ReadError("no number where a header has one")
    return int(digits[1] or b"0", 8)


def _digits(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise tarfile.ReadError("a pax record of a size that is none")
    return int(text)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _ustar_name(block: bytes) -> bytes:
    name, prefix = (part.partition(b"\0")[0] for part in (block[:100], block[345:500]))
    return prefix + b"/" + name if prefix and block[156] != _SPARSE else name


def _records(text: bytes) -> dict[bytes, bytes]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(text) and text[at]:
        digits = text[at : at + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        record = text[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not record.endswith(b"\n") or at + length > len(text):
            raise tarfile.ReadError("a damaged pax record")
        found[key] = value[:-1]
        at += length
    return found


def _refuse_global(records: dict[bytes, bytes]) -> None:
    if any(key in (b"path", b"size") or key.startswith(b"GNU.sparse.") for key in records):
        raise tarfile.ReadError("a global pax record that gives all members one name or size")


def _after_map(stream: BinaryIO, block: bytes, start: int) -> int:
    """Where the data of an old GNU sparse file begin: after the blocks of its map."""
    more = block[482]
    while more:
        stream.seek(start)
        part = stream.read(BLOCK)
        if len(part) < BLOCK:
            raise tarfile.ReadError("unexpected end of data")
        more, start = part[504], start + BLOCK
    return start


def _only_zeros(stream: BinaryIO, at: int) -> bool:
    stream.seek(at)
    return all(not any(chunk) for chunk in iter(lambda: stream.read(1 << 20), b""))
