"""The figures and tables of the report, by section."""

from pathlib import Path
from typing import Any

from clipshift.core.files import read_csv

# Rows of numbers that the page shows below a figure; more are in the file only.
MOST_ROWS = 120


def shown(figures: list[dict[str, Any]], results: Path) -> dict[str, list[dict[str, Any]]]:
    """What the page shows of each figure, by section (see `study.layout.report`)."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        image, tables = figure["image"], figure["tables"]
        entry = {key: figure[key] for key in ("kind", "name", "caption")} | {
            "picture": _file(image[0], results) if image else None,
            "path": [*image, *tables][0],
            "tables": {table: read_csv(_file(table, results)) for table in tables},
            "most_rows": MOST_ROWS,
        }
        sections.setdefault(figure["section"], []).append(entry)
    return sections


def _file(path: str, results: Path) -> Path:
    return results / Path(path).relative_to("results")


def pruned_matrix(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """One entry per split: its first row, and its rows by test set."""
    splits: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = splits.setdefault(row["split"], {"first": row, "cells": {}})
        entry["cells"][row["test_set"]] = row
    return list(splits.values())
