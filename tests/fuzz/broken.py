"""Readers that are wrong on purpose: each must be reported as what it is.

They read `a.json`, a list of three numbers.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from tests.fuzz.reader import MustRefuse, Reader


class Good(Reader):
    """Reads plain numbers, and refuses all else with the file's name."""

    name = "broken.good"

    def build(self, folder: Path) -> None:
        (folder / "a.json").write_text("[1, 2, 3]\n")

    def read(self, folder: Path, out: Path) -> Any:
        try:
            found = json.loads((folder / "a.json").read_bytes())
        except (ValueError, OSError, RecursionError) as error:
            raise ClipshiftError(f"{folder / 'a.json'}: {error}") from error
        return self.made(found, folder)

    def made(self, found: Any, folder: Path) -> Any:
        if found == [1, 2, 3]:
            return found
        raise ClipshiftError(f"{folder / 'a.json'} is no list of three numbers")

    def truth(self, folder: Path) -> Any:
        return json.loads((folder / "a.json").read_bytes())


class Changed(Good):
    """Once its file is another one, it misbehaves as told."""

    name = "broken.changed"

    def __init__(self, way: str) -> None:
        self.way = way

    def made(self, found: Any, folder: Path) -> Any:  # noqa: PLR0912
        if found == [1, 2, 3]:
            return found
        match self.way:
            case "right":
                return found
            case "clean":
                raise ClipshiftError(f"{folder / 'a.json'} is another one")
            case "usage":
                sys.exit(2)
            case "unnamed":
                raise ClipshiftError("something is another one")
            case "traceback":
                raise KeyError("a")
            case "WRONG":
                return [4, 5, 6]
            case "oracle":
                return [1, 2]
            case "hang":
                while True:
                    pass
            case "blocked":
                time.sleep(1000)
            case "memory":
                return len(bytearray(b"x") * (2200 << 20))
            case "address":
                return len(bytearray(8 << 30))
            case "signal":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(0)
        return None

    def truth(self, folder: Path) -> Any:
        found = json.loads((folder / "a.json").read_bytes())
        if self.way == "oracle" and found != [1, 2, 3]:
            raise ValueError("the oracle cannot read it")
        if found == "must refuse":
            raise MustRefuse("told so")
        return found
