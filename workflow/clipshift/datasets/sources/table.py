"""Images named by a code, described in a csv."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.sources.base import Item, Rejected, leads_out, locator
from clipshift.study.config.data import TableSource


def read(spec: TableSource, packages: Mapping[str, Path]) -> Iterator[Item | Rejected]:
    root = packages[spec.pictures]
    table = packages[spec.table] / spec.csv
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for column in (spec.code, spec.concept):
        if not rows or column not in rows[0]:
            raise ClipshiftError(f"{spec.csv} of the package {spec.table} has no column {column!r}")
    described = {row[spec.code]: row for row in rows}
    for file in (root / spec.folder).glob(f"*{spec.suffix}"):
        place = locator(spec.pictures, root, file)
        if leads_out(file, root):
            yield Rejected(place, "symbolic link")
        elif row := described.get(file.stem):
            category = file.stem[: spec.category_letters]
            concept = row[spec.concept].split(",")[0].strip().lower()
            yield Item(place, file.read_bytes(), category, concept, {**row, "category": category})
        else:
            yield Rejected(place, "no row in the table")
