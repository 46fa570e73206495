"""A grid of sample pictures: of a source, a set, or what a split keeps and removes.

`python -m clipshift.figures.samples --tar WORD... [--split FILE] --out FILE.jpg`. Samples are
chosen by a hash of their key, so the grid is the same every time. With a split the grid has two
halves: kept above, removed below (duplicates left aside).
"""

import argparse
import io
from collections.abc import Set
from pathlib import Path

from PIL import Image, ImageDraw

from clipshift.core.errors import run
from clipshift.core.files import atomic, read_parquet
from clipshift.datasets.select import seeded_order
from clipshift.datasets.tar_paths import add_arguments, tars_of
from clipshift.figures.images import picture_bytes

COLUMNS = 12
THUMB = 72
HEADER = 18
# Reasons whose pictures say nothing about the recipe.
HIDDEN = ("duplicate", "not embedded", "reference")


def choose(keys: list[str], count: int) -> list[str]:
    """`count` keys by the order of their hash."""
    return sorted(keys, key=lambda key: (seeded_order(0, key), key))[:count]


def pictures(tars: list[Path], wanted: Set[str]) -> dict[str, Image.Image]:
    """Thumbnails of the wanted keys."""
    found = {}
    for key, data in picture_bytes(tars, wanted):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        found[key] = image.resize((THUMB, THUMB), Image.Resampling.LANCZOS)
    return found


def grid(groups: dict[str, list[str]], tars: list[Path], rows: int) -> Image.Image:
    """Groups of keys, one under the other, each with its heading."""
    chosen = {title: choose(keys, rows * COLUMNS) for title, keys in groups.items()}
    found = pictures(tars, {key for keys in chosen.values() for key in keys})
    lines = {title: -(-len(keys) // COLUMNS) for title, keys in chosen.items()}
    height = sum(HEADER + lines[t] * (THUMB + 2) for t in chosen)
    sheet = Image.new("RGB", (COLUMNS * (THUMB + 2), height), "white")
    pen = ImageDraw.Draw(sheet)
    top = 0
    for title, keys in chosen.items():
        pen.text((4, top + 3), f"{title}: {len(groups[title])}", fill="black")
        top += HEADER
        for i, key in enumerate(keys):
            place = ((i % COLUMNS) * (THUMB + 2), top + (i // COLUMNS) * (THUMB + 2))
            sheet.paste(found[key], place)
        top += lines[title] * (THUMB + 2)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--table", type=Path, action="append", default=[])
    parser.add_argument("--split", type=Path)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    groups: dict[str, list[str]] = {}
    if args.split:
        for row in read_parquet(args.split, ["key", "kept", "reason"]).to_pylist():
            if row["reason"] not in HIDDEN:
                title = "kept" if row["kept"] else f"removed ({row['reason']})"
                groups.setdefault(title, []).append(row["key"])
        groups = dict(sorted(groups.items()))
    else:
        keys = [k for t in args.table for k in read_parquet(t, ["key"])["key"].to_pylist()]
        groups["samples"] = keys
    with atomic(args.out) as stream:
        grid(groups, tars_of(args.tar, args.data), args.rows).save(stream, "JPEG", quality=85)


if __name__ == "__main__":
    run(main)
