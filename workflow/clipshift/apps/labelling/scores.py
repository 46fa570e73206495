"""The order of the page by a classifier's scores, so that like images stand side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from clipshift.apps.labelling.catalogue import BATCH, Item
from clipshift.core import columns
from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import batches, schema_of


def sort_items(
    items: Sequence[Item], path: Path, column: str | None = None, least: float | None = None
) -> tuple[list[Item], int]:
    """Items by descending score, of equals by key; those without a score follow, by key.

    With `least` those whose score is nearest to it come first.

    Args:
        path: a parquet file with `key` and a column of scores, or a folder of such files.
        column: of the scores; may be left out where the files have one column of floats.

    Returns:
        the items, and how many have no score (none in the files, null or NaN).

    Raises:
        ClipshiftError: no such column, or a key that is scored twice.
    """
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ClipshiftError(f"{path} (of --scores) is no parquet file and no folder of some")
    wanted = {item.key for item in items}
    scores: dict[str, float] = {}
    for file in files:
        name = column or score_column(file)
        for batch in batches(file, BATCH, ["key", name]):
            keys = columns.text(batch["key"], "key", file).to_pylist()
            values = columns.numbers(batch[name], name, file).tolist()
            for key, score in zip(keys, values, strict=True):
                if key not in wanted:
                    continue
                if key in scores:
                    raise ClipshiftError(
                        f"{file}: {key!r} is scored twice; give the scores of one run"
                    )
                if not math.isnan(score):
                    scores[key] = score if least is None else -abs(score - least)
    ordered = sorted(items, key=lambda i: (-scores.get(i.key, -math.inf), i.key))
    return ordered, len(items) - len(scores)


def score_column(file: Path) -> str:
    """The one column of floats."""
    floats: list[str] = [f.name for f in schema_of(file) if pa.types.is_floating(f.type)]
    if len(floats) != 1:
        raise ClipshiftError(
            f"{file} has the float columns {floats}; name the one to sort by: --score-column NAME"
        )
    return floats[0]
