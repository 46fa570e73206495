"""What the steps of controlled trainings share: the table of fields, and the classes."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from clipshift.core.brace_ranges import spread
from clipshift.study.config.causes import CAPTION_FIELDS

# Fields of pictures: texts, empty where there is none, and the label where the data hold one.
FIELDS = pa.schema(
    [("key", pa.string()), *((f, pa.string()) for f in CAPTION_FIELDS), ("label", pa.int32())]
)


def classes_of(classes: list[str] | Path | str) -> list[str]:
    """Classes in the order of their indices: as they are, in a file with one a line, or as JSON."""
    if isinstance(classes, list):
        return classes
    if str(classes).startswith("["):
        return list(json.loads(str(classes)))
    return Path(classes).read_text().splitlines()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What names pictures and classes."""
    parser.add_argument("--table", nargs="+", required=True, help="sample tables")
    parser.add_argument("--fields", nargs="*", default=[], help="fields of sources or shards")
    parser.add_argument("--classes", required=True, help="JSON of the classes, or a file of them")
    parser.add_argument("--out", type=Path, required=True)


def paths_of(words: Sequence[str]) -> list[Path]:
    """The paths of some words (see `clipshift.core.brace_ranges`)."""
    return [path for word in words for path in spread(word)]
