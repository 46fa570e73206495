"""Kinds for tars: their headers, names and contents, and what a sample holds."""

import gzip
import zlib
from pathlib import Path
from random import Random

from tests.fuzz.mutants import Unsuitable, kind
from tests.fuzz.mutants.values import IMAGES, TEXTS

Member = tuple[bytearray, bytes]  # a header of 512 bytes, and the data without padding
BLOCK = 512
ODD_NAMES = (
    b"../../x.jpg", b"/etc/x.jpg", b"\xff\xfe.jpg", b"a\nb.jpg", b".jpg", b"x", b"x.", b"a..jpg",
    b"$(id).jpg", b"x;id.jpg", b"x.pyd", b"x.pickle", b"x.tar", b"x.jpg.gz", b"x.JPG",
    b"a/" * 45 + b".jpg", b"__key__.jpg", b"__url__", b"\x00", "\u00fc\u0308.jpg".encode(),
)  # fmt: skip
SIZES = (-1, -512, 1 << 33, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 64, 1 << 88)


def members(path: Path) -> list[Member]:
    """Headers and data of a valid plain tar."""
    data, at, found = path.read_bytes(), 0, []
    while at + BLOCK <= len(data) and any(data[at : at + BLOCK]):
        header = bytearray(data[at : at + BLOCK])
        try:
            size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
        except ValueError:
            raise Unsuitable from None
        found.append((header, data[at + BLOCK : at + BLOCK + size]))
        at += BLOCK + -(-size // BLOCK) * BLOCK
    if not found:
        raise Unsuitable
    return found


def write(path: Path, found: list[Member]) -> None:
    parts = []
    for header, data in found:
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        parts += [bytes(header), data, bytes(-len(data) % BLOCK)]
    path.write_bytes(b"".join(parts) + bytes(2 * BLOCK))


def sized(size: int) -> bytes:
    """The field of a size, in base 256 where it is negative or large."""
    if 0 <= size < 8**11:
        return b"%011o\0" % size
    return (
        b"\xff" + size.to_bytes(11, "big", signed=True)
        if size < 0
        else (b"\x80" + (size % (1 << 88)).to_bytes(11, "big"))
    )


def header_like(member: Member, flag: bytes, name: bytes, data: bytes, size: int = -2) -> Member:
    header = bytearray(member[0])
    header[0:100] = name.ljust(100, b"\0")
    header[156:157] = flag
    header[124:136] = sized(len(data) if size == -2 else size)
    return header, data


def record(key: str, value: str) -> bytes:
    """A record of a pax header, whose length counts itself."""
    body = f" {key}={value}\n".encode()
    size = len(body)
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


def pax(path: Path, chance: Random, *records: tuple[str, str], flag: bytes = b"x") -> None:
    found = members(path)
    at = chance.randrange(len(found))
    data = b"".join(record(*r) for r in records)
    found.insert(at, header_like(found[at], flag, b"pax", data))
    write(path, found)


@kind("tar-negsize", ".tar")
def negsize(path: Path, chance: Random) -> None:
    found = members(path)
    chance.choice(found)[0][124:136] = sized(chance.choice(SIZES))
    write(path, found)


@kind("tar-gnu_long", ".tar")
def gnu_long(path: Path, chance: Random) -> None:
    found = members(path)
    at = chance.randrange(len(found))
    name = b"n" * chance.choice((0, 101, 5000)) + b".jpg\0"
    size = chance.choice((-2, -2, *SIZES))
    flag = chance.choice((b"L", b"K"))
    found.insert(at, header_like(found[at], flag, b"././@LongLink", name, size))
    write(path, found)


@kind("tar-pax_size", ".tar")
def pax_size(path: Path, chance: Random) -> None:
    texts = [*map(str, SIZES), "nan", "1e9", "", "0x10", "9" * 5000, "\u00b2"]
    pax(path, chance, ("size", chance.choice(texts)), flag=chance.choice((b"x", b"g")))


@kind("tar-pax_huge", ".tar")
def pax_huge(path: Path, chance: Random) -> None:
    found = members(path)
    at = chance.randrange(len(found))
    size = chance.choice((1 << 31, 1 << 32, 1 << 33, 1 << 40))
    found.insert(at, header_like(found[at], chance.choice((b"x", b"g")), b"pax", b"x", size))
    write(path, found)


@kind("tar-pax_sparse", ".tar")
def pax_sparse(path: Path, chance: Random) -> None:
    ways = (
        (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "0.jpg"),
         ("GNU.sparse.realsize", chance.choice(("1", "99999999999", "-1", "x")))),
        (("GNU.sparse.map", chance.choice(("1", "0,1,2", "x,y", ""))), ("GNU.sparse.size", "9")),
        (("GNU.sparse.offset", "1"), ("GNU.sparse.numbytes", "x"), ("GNU.sparse.numblocks", "1")),
    )  # fmt: skip
    pax(path, chance, *chance.choice(ways))


@kind("tar-pax_path", ".tar")
def pax_path(path: Path, chance: Random) -> None:
    names = ("../x.jpg", "/x.jpg", "a\nb.jpg", "", "k" * 70_000 + ".jpg", "x\0.jpg")
    pax(path, chance, ("path", chance.choice(names)), flag=chance.choice((b"x", b"g")))


@kind("tar-gnu_sparse", ".tar")
def gnu_sparse(path: Path, chance: Random) -> None:
    found = members(path)
    header = chance.choice(found)[0]
    header[156:157] = b"S"
    header[386:398] = sized(0)
    header[398:410] = sized(chance.choice((1, 1 << 20)))
    header[482:483] = chance.choice((b"\0", b"\1"))
    header[483:495] = sized(chance.choice(SIZES))
    write(path, found)


@kind("tar-name", ".tar")
def name(path: Path, chance: Random) -> None:
    found = members(path)
    other = bytes(chance.choice(found)[0][:100])
    chance.choice(found)[0][0:100] = chance.choice((*ODD_NAMES, other, other))[:100].ljust(
        100, b"\0"
    )
    write(path, found)


@kind("tar-type", ".tar")
def type_(path: Path, chance: Random) -> None:
    found = members(path)
    header = chance.choice(found)[0]
    header[156] = chance.choice(b"1234567DMNVXAxgLKS\xff")
    header[157:257] = chance.choice((b"/etc/passwd", b"../x", bytes(header[:100])))[:100].ljust(
        100, b"\0"
    )
    write(path, found)


@kind("tar-order", ".tar")
def order(path: Path, chance: Random) -> None:
    """Members of samples are no neighbours any more."""
    found = members(path)
    chance.shuffle(found)
    write(path, found)


@kind("tar-again", ".tar")
def again(path: Path, chance: Random) -> None:
    found = members(path)
    found.insert(chance.randrange(len(found) + 1), chance.choice(found))
    write(path, found)


@kind("tar-drop", ".tar")
def drop(path: Path, chance: Random) -> None:
    found = members(path)
    found.pop(chance.randrange(len(found)))
    write(path, found)


@kind("tar-deep", ".tar")
def deep(path: Path, chance: Random) -> None:
    """Every member in one of two folders; the keys' last parts are equal."""
    found = members(path)
    for i, (header, _) in enumerate(found):
        given = header[:100].rstrip(b"\0")
        header[0:100] = (b"ab"[i % 2 : i % 2 + 1] + b"/" + given)[:100].ljust(100, b"\0")
    write(path, found)


@kind("tar-content", ".tar")
def content(path: Path, chance: Random) -> None:
    found = members(path)
    at = chance.randrange(len(found))
    header, _ = found[at]
    data = chance.choice(IMAGES if b".jpg" in header[:100] else TEXTS)
    header[124:136] = sized(len(data))
    found[at] = (header, data)
    write(path, found)


@kind("tar-unended", ".tar")
def unended(path: Path, chance: Random) -> None:
    """No mark of the end; or a second archive after it."""
    data = path.read_bytes()
    cut = data.rstrip(b"\0")
    cut += bytes(-len(cut) % BLOCK)
    path.write_bytes(chance.choice((cut, cut + bytes(BLOCK), data + data)))


@kind("tar-packed", ".tar")
def packed(path: Path, chance: Random) -> None:
    data = gzip.compress(path.read_bytes(), mtime=0)
    path.write_bytes(chance.choice((data, data[:-9], data + b"x", data + data)))


@kind("tar-packbomb", ".tar")
def packbomb(path: Path, chance: Random) -> None:
    """A header, then 2.5 GiB of zeros in 2.6 MB."""
    first = zlib.compressobj(9, wbits=31)
    zeros = first.compress(bytes(64 << 20)) + first.flush()
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0) + zeros * 40)
