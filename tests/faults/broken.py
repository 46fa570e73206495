"""Commands that are wrong on purpose: each fault must be seen."""

import os
import time
from pathlib import Path
from typing import ClassVar

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic
from tests.faults.commands import Command, replaced

PARTS = 20
PAUSE = 0.01


class Plain(Command):
    """Writes `out.txt` of 20 pages from `in.txt`, whole or not at all."""

    name = "plain"
    file: ClassVar[str] = "out.txt"

    def build(self, folder: Path) -> None:
        (folder / "in.txt").write_text("a")

    def alter(self, folder: Path) -> None:
        replaced(folder / "in.txt", lambda part: part.write_text("b"))

    def run(self, folder: Path, out: Path) -> None:
        text = (folder / "in.txt").read_text()
        try:
            with atomic(out / self.file) as stream:
                for _ in range(PARTS):
                    stream.write(text.encode() * 4096)
                    time.sleep(PAUSE)
        except OSError as error:
            raise ClipshiftError(f"{out / self.file}: {error}") from error


class InPlace(Plain):
    """Writes under the final name, and takes a file that is there for done."""

    name = "in place"

    def run(self, folder: Path, out: Path) -> None:
        if (out / self.file).exists():
            return
        with (out / self.file).open("wb", buffering=0) as stream:
            for _ in range(PARTS):
                stream.write((folder / "in.txt").read_bytes() * 4096)
                time.sleep(PAUSE)


class Surprised(Plain):
    """Knows no folder that cannot be written."""

    name = "surprised"

    def run(self, folder: Path, out: Path) -> None:
        try:
            super().run(folder, out)
        except ClipshiftError as error:
            raise RuntimeError("no place to write") from error


class Littering(Plain):
    """Leaves a part for ever."""

    name = "littering"

    def run(self, folder: Path, out: Path) -> None:
        part = out / f"{os.getpid()}.part"
        part.write_text("x")
        super().run(folder, out)
        part.unlink()


class Rereading(Plain):
    """Reads its input for each of two files: they may be of two inputs."""

    name = "rereading"

    def run(self, folder: Path, out: Path) -> None:
        for self.file in ("1.txt", "2.txt"):  # type: ignore[misc]
            super().run(folder, out)
