"""Tables beside image files: Hugging Face's `metadata.csv` and `.jsonl`, and lists of labels."""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.readable import reading
from clipshift.datasets.formats import tables
from clipshift.datasets.formats.base import FIELDS, KEY_OF_UNIT, Columns
from clipshift.datasets.formats.tar_samples import fields_of
from clipshift.datasets.listing import natural, walk
from clipshift.datasets.records import Rejected, printable

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


@dataclass
class SideTables:
    """What tables say of image files.

    Attributes:
        files: the tables, relative to the folder.
        rows: fields by the path of the image, relative to the folder.
        places: of the rows, by the same.
    """

    files: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def metadata(folder: Path, columns: Columns) -> SideTables:
    """The tables named `metadata` in a folder and below; each names files below its own folder.

    A table without the column `file_name` is somebody's own, and `said`.

    Raises:
        ClipshiftError: a damaged table, or one without a column that the user names.
    """
    found = SideTables()
    tables_there = (n for n in walk(folder, Counter()) if Path(n).name.lower() in NAMES)
    for name in sorted(tables_there, key=natural):
        file = folder / name
        named, said = tables.guess(tables.columns_of(file), columns, FIELDS, file)
        if columns.get("key") in (None, KEY_OF_UNIT):
            named.pop("key", None)
        if "image" not in named:
            found.said.append(f"{name} has no column file_name (image=COLUMN)")
            continue
        found.files.append(name)
        found.said += [f"{name}: {line}" for line in said]
        for number, row in tables.rows_of(file, list(named.values())):
            where = f"{printable(str(file))}#row {number}"
            fields = row if isinstance(row, str) else fields_of(row, named)
            if isinstance(fields, str):
                found.rejected.append(Rejected("", where, fields))
                continue
            path = fields.pop("image")
            key = str(Path(name).parent / path) if path else ""
            if key in found.rows or not key:
                reason = "image is listed again" if key else "row names no image file"
                found.rejected.append(Rejected(key, where, reason))
                continue
            found.rows[key], found.places[key] = fields, where
    return found


def label_file(file: Path) -> dict[str, str]:
    """Labels by the names of files, from lines of `FILE LABEL`, apart by blanks, tabs or commas.

    A first line `ImageId,PredictionString` (ImageNet's on Kaggle) is passed over; what follows the
    label in a line is not read.

    Raises:
        ClipshiftError: not there, a line without a label, or a file with two labels.
    """
    found: dict[str, str] = {}
    with reading(file, "text"):
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    for number, line in enumerate(lines, 1):
        words = [word for word in re.split(r"[\s,;]+", line.strip()) if word]
        if not words or (number == 1 and words[0] == "ImageId"):
            continue
        if len(words) < 2 or found.setdefault(words[0], words[1]) != words[1]:
            what = "no label" if len(words) < 2 else "a second label of the same file"
            raise ClipshiftError(f"{file}, line {number}: {what}")
    return found


def label_of(labels: dict[str, str], key: str) -> str | None:
    """The label of an image by its path, its name, or its name without the suffix."""
    name = key.rpartition("/")[2]
    for text in (key, name, name.rpartition(".")[0]):
        if text in labels:
            return labels[text]
    return None
