"""Kinds for every file: its bytes, what lies at its path, and its neighbours."""

import os
import shutil
from pathlib import Path
from random import Random

from tests.fuzz.mutants import Unsuitable, kind


def _flip(data: bytearray, chance: Random, low: int, high: int) -> None:
    if high <= low:
        raise Unsuitable
    data[chance.randrange(low, high)] ^= 1 << chance.randrange(8)


for _count in (1, 8, 64):

    @kind(f"bytes-bitflip{_count}")
    def _bitflip(path: Path, chance: Random, count: int = _count) -> None:
        data = bytearray(path.read_bytes())
        for _ in range(count):
            _flip(data, chance, 0, len(data))
        path.write_bytes(data)


@kind("bytes-headflip")
def headflip(path: Path, chance: Random) -> None:
    data = bytearray(path.read_bytes())
    _flip(data, chance, 0, min(64, len(data)))
    path.write_bytes(data)


@kind("bytes-tailflip")
def tailflip(path: Path, chance: Random) -> None:
    data = bytearray(path.read_bytes())
    _flip(data, chance, max(0, len(data) - 64), len(data))
    path.write_bytes(data)


@kind("bytes-trunc")
def trunc(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data) or 1)])


@kind("bytes-append")
def append(path: Path, chance: Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.choice((1, 7, 512, 5000))))


def _span(data: bytes, chance: Random) -> tuple[int, int]:
    if not data:
        raise Unsuitable
    start = chance.randrange(len(data))
    return start, min(len(data), start + chance.choice((1, 8, 64, 512, 4096)))


@kind("bytes-cutchunk")
def cutchunk(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    start, end = _span(data, chance)
    path.write_bytes(data[:start] + data[end:])


@kind("bytes-dupchunk")
def dupchunk(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    start, end = _span(data, chance)
    path.write_bytes(data[:end] + data[start:])


@kind("bytes-zeroblock")
def zeroblock(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    start, end = _span(data, chance)
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])


@kind("bytes-insert")
def insert(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    at = chance.randrange(len(data) + 1)
    path.write_bytes(data[:at] + chance.randbytes(chance.choice((1, 4, 100))) + data[at:])


@kind("bytes-lfs")
def lfs(path: Path, chance: Random) -> None:
    """A pointer of git-lfs in the place of the file."""
    size = path.stat().st_size
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {size}\n"
    )


@kind("node-gone")
def gone(path: Path, chance: Random) -> None:
    path.unlink()


@kind("node-empty")
def empty(path: Path, chance: Random) -> None:
    path.write_bytes(b"")


@kind("node-dir")
def directory(path: Path, chance: Random) -> None:
    path.unlink()
    path.mkdir()


@kind("node-symloop")
def symloop(path: Path, chance: Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


@kind("node-dangling")
def dangling(path: Path, chance: Random) -> None:
    path.unlink()
    path.symlink_to("not-there")


@kind("node-fifo")
def fifo(path: Path, chance: Random) -> None:
    path.unlink()
    os.mkfifo(path)


@kind("node-endless")
def endless(path: Path, chance: Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _siblings(path: Path) -> list[Path]:
    found = sorted(p for p in path.parent.iterdir() if p.suffix == path.suffix and p != path)
    if not found:
        raise Unsuitable
    return found


@kind("folder-copy")
def copy(path: Path, chance: Random) -> None:
    """The file is another one of its folder: keys occur twice, rows of two files differ."""
    shutil.copyfile(chance.choice(_siblings(path)), path)


@kind("folder-extra")
def extra(path: Path, chance: Random) -> None:
    """A further file of this form, by the name of the next number or another."""
    digits = "".join(c for c in path.stem if c.isdigit())
    stem = path.stem.replace(digits, str(int(digits) + 7).zfill(len(digits))) if digits else "x"
    shutil.copyfile(path, path.with_name(stem + path.suffix))


@kind("folder-swap")
def swap(path: Path, chance: Random) -> None:
    other = chance.choice(_siblings(path))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


@kind("folder-rename")
def rename(path: Path, chance: Random) -> None:
    odd = ("\n", "\udcff", " ", "'", "$(id)", "[1]")
    name = f"{path.stem}{chance.choice(odd)}{path.suffix}"
    path.rename(path.with_name(name))
