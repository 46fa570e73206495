"""The command line of `clipshift margins`: read without importing torch."""

import argparse
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.names import Name

# Folders of a run beside those of the test sets.
RESERVED = ("thresholds", "certificates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, required=True, help="embedding folder")
    parser.add_argument(
        "--test", action="append", required=True, metavar="NAME=DIR",
        help="embedding folder of a test set; may be given several times",
    )  # fmt: skip
    parser.add_argument("--reference", type=Path, required=True, help="embedding folder")
    parser.add_argument("--k", type=int, default=0, help="also the k nearest points of each test")
    parser.add_argument(
        "--grid", type=float, nargs="*", default=[], help="also count points above these"
    )
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--screen", default="auto", choices=["auto", "int8", "float32", "none"])
    parser.add_argument("--out", type=Path, required=True)


def named_tests(words: list[str]) -> dict[str, Path]:
    """`NAME=DIR` words; names become folders, so they are those of the configuration."""
    found: dict[str, Path] = {}
    for name, _, folder in (word.partition("=") for word in words):
        try:
            TypeAdapter(Name).validate_python(name)
        except ValidationError:
            raise ClipshiftError(
                f"--test {name!r}: expected NAME=DIR with a name of letters, digits and _"
            ) from None
        if not Path(folder).is_dir() or name in RESERVED:
            raise ClipshiftError(f"--test {name}={folder}: no such folder, or a reserved name")
        found[name] = Path(folder)
    if len(found) < len(words):
        raise ClipshiftError(f"--test: two sets have the same name, of {sorted(found)}")
    return found
