"""A grid of sample images: of a source, or of what a split keeps and removes.

Samples are chosen by a hash of their key, so the grid is the same every time. That of a split shows
the kept ones above and the removed ones below, by reason (duplicates left aside).
"""

from collections.abc import Set
from pathlib import Path

from PIL import Image, ImageDraw

from clipshift.core.files import atomic, read_parquet
from clipshift.core.step import step
from clipshift.datasets.select import seeded_order
from clipshift.datasets.tar_paths import data_folder, tars_of
from clipshift.figures.images import decoded

COLUMNS = 12
THUMB = 72
HEADER = 18
# Reasons whose images say nothing about the recipe.
HIDDEN = ("duplicate", "not embedded", "reference")


def choose(keys: list[str], count: int) -> list[str]:
    """`count` keys by the order of their hash."""
    return sorted(keys, key=lambda key: (seeded_order(0, key), key))[:count]


def images(tars: list[Path], wanted: Set[str]) -> dict[str, Image.Image]:
    """Thumbnails of the wanted keys."""
    thumbnails = {}
    for key, image in decoded(tars, wanted):
        thumbnails[key] = image.resize((THUMB, THUMB), Image.Resampling.LANCZOS)
    return thumbnails


def grid(groups: dict[str, list[str]], tars: list[Path], rows: int) -> Image.Image:
    """Groups of keys, one under the other, each with its heading."""
    chosen = {title: choose(keys, rows * COLUMNS) for title, keys in groups.items()}
    thumbnails = images(tars, {key for keys in chosen.values() for key in keys})
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
            sheet.paste(thumbnails[key], place)
        top += lines[title] * (THUMB + 2)
    return sheet


@step(version=3)
def source(tar: Path, table: Path, out: Path) -> None:
    """Some of a source's samples."""
    keys = read_parquet(table, ["key"])["key"].to_pylist()
    with atomic(out) as stream:
        grid({"samples": keys}, [tar], 2).save(stream, "JPEG", quality=85)


@step(version=3)
def split(tars: list[str], split: Path, out: Path) -> None:
    """Some of what a split keeps and removes; `tars`: see `tars_of`."""
    groups: dict[str, list[str]] = {}
    for row in read_parquet(split, ["key", "kept", "reason"]).to_pylist():
        if row["reason"] not in HIDDEN:
            title = "kept" if row["kept"] else f"removed ({row['reason']})"
            groups.setdefault(title, []).append(row["key"])
    with atomic(out) as stream:
        sheet = grid(dict(sorted(groups.items())), tars_of(tars, data_folder()), 3)
        sheet.save(stream, "JPEG", quality=85)
