"""Kinds for words of the command line (`args.json`: a list of words)."""

import json
from pathlib import Path
from random import Random

from tests.fuzz.mutants import kind

ODD = (
    "", " ", "-1", "0", "nan", "inf", "1e999", "9" * 5000, "\u00b2", "/dev/null", "/dev/null/x",
    "/proc/x", "/", ".", "x" * 5000, "a\nb", "\udcff", "'; id", "$(id)", "--", "-", "--out",
    "NAME=", "=", "val=", "val=150%", "val=-5", "val=nan", "test=/dev/zero", "/dev/full", "::",
    "{", '{"kind": 1}', "[" * 100_000, "#zzzzzz", "::NAME", "a::b::c", "../..", "0.5", "1.5",
)  # fmt: skip


def _change(path: Path, chance: Random, way: str) -> None:
    words = json.loads(path.read_text())
    at = chance.randrange(len(words))
    match way:
        case "value":
            words[at] = chance.choice(ODD)
        case "drop":
            del words[at]
        case "twice":
            words.insert(at, words[at])
        case "insert":
            words.insert(at, chance.choice(ODD))
        case "swap":
            other = chance.randrange(len(words))
            words[at], words[other] = words[other], words[at]
    path.write_text(json.dumps(words))


for _way in ("value", "drop", "twice", "insert", "swap"):

    @kind(f"args-{_way}", ".json")
    def _args(path: Path, chance: Random, way: str = _way) -> None:
        _change(path, chance, way)
