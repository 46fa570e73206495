"""Example test images with their nearest neighbours in each base, with their similarities.

The examples are spread over the similarities: the test images, in the order of their similarity to
the bases together, are cut into equal parts, and a seeded hash picks one of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.contact_sheet import Sheet, short
from clipshift.figures.kind import Shown, kind
from clipshift.figures.style import GREY, house_style
from clipshift.study.config.numbers import Seed
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.figures.images import Thumbnail

Rows = list[dict[str, Any]]

SIDE, GAP, LETTERS = 0.72, 0.08, 0.40  # inches: image, space between, texts below
GROUP = 0.16  # more space between the query and the groups of neighbours
HEAD = 0.44


@kind(
    "neighbours",
    section="similarity",
    caption="Example test images, spread over the similarities, with their nearest neighbours.",
)
class Examples(Shown):
    """Example images with their nearest neighbours in each base."""

    queries: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Test images per set, one from each of as many equal parts of the order "
        "of similarity.",
    )
    shown: int = Field(default=3, ge=1, le=1000, description="Neighbours per base.")
    seed: Seed = Field(default=0, description="Seed of the choice within each part.")


def choose(keys: list[str], similarity: np.ndarray, count: int, seed: int) -> list[str]:
    """One key from each of `count` equal parts of the order of similarity, largest first.

    Fewer test images than parts give all of them.
    """
    import numpy as np

    from clipshift.datasets.select import seeded_order

    # By falling similarity, equal ones by key.
    order = np.lexsort((np.array(keys), -similarity))
    parts = [part for part in np.array_split(order, count) if len(part)]
    return [
        min((keys[i] for i in part), key=lambda k: (seeded_order(seed, k), k)) for part in parts
    ]


def rows(block: Examples, files: Files) -> Rows:
    """One row per query, base and rank, in the order of the figure."""
    from clipshift.figures.nearest import read_neighbours, read_training

    records = []
    for name in block.sets:
        bases = files["neighbours"][name]
        nearest = read_training(list(bases.values()))
        chosen = choose(nearest.keys, nearest.similarity, block.queries, block.seed)
        place = {key: i for i, key in enumerate(chosen)}
        for base, path in bases.items():
            for r in read_neighbours(Path(path), block.shown).to_pylist():
                if r["test_key"] in place:
                    records.append({"test_set": name, "base": base, **r})
        start = len(records) - len([r for r in records if r["test_set"] == name])
        records[start:] = sorted(
            records[start:],
            key=lambda r: (place[r["test_key"]], block.bases.index(r["base"]), r["rank"]),
        )
    if not records:
        raise ClipshiftError(f"no neighbours of {block.sets}; delete them and run again")
    return records


def draw(
    block: Examples, numbers: Rows, found: dict[str, dict[str, Thumbnail]], reference: str,
    out: list[Path],
) -> None:  # fmt: skip
    """A block of rows per test set: the query, then the neighbours of each base."""
    step = SIDE + GAP
    lines = {
        s: list(dict.fromkeys(r["test_key"] for r in numbers if r["test_set"] == s))
        for s in block.sets
    }
    width = 2 * GAP + step * (1 + block.shown * len(block.bases)) + GROUP * len(block.bases)
    height = GAP + sum(HEAD + (SIDE + LETTERS) * len(keys) for keys in lines.values())
    with house_style(arranged=False):
        sheet = Sheet(width, height)
        top = 0.0
        for name, keys in lines.items():
            _head(sheet, top, block, name, reference)
            top += HEAD
            for key in keys:
                query = found[name][key]
                sheet.image(GAP, top, SIDE, query.pixels)
                sheet.text(GAP + SIDE / 2, top + SIDE + 0.03, short(query.caption, 17, 3), 5.2)
                for r in numbers:
                    if (r["test_set"], r["test_key"]) == (name, key):
                        at = _left(block, r["base"]) + step * r["rank"]
                        _neighbour(sheet, at, top, r, found[""][r["key"]])
                top += SIDE + LETTERS
        sheet.save(out, block.caption)


def _left(block: Examples, base: str) -> float:
    """Where the neighbours in a base begin."""
    group = block.bases.index(base)
    return GAP + (SIDE + GAP) * (1 + group * block.shown) + GROUP * (group + 1)


def _head(sheet: Sheet, top: float, block: Examples, name: str, reference: str) -> None:
    sheet.text(GAP, top + 0.2, name, 8, ha="left", weight="bold")
    step = SIDE + GAP
    for base in block.bases:
        left, right = _left(block, base), _left(block, base) + step * block.shown - GAP
        base_label = f"{base}, the reference set" if base == reference else f"the pool ({base})"
        sheet.text((left + right) / 2, top + 0.2, f"nearest in {base_label}", 8)
        sheet.line([left, right], [top + 0.385] * 2)


def _neighbour(sheet: Sheet, x: float, y: float, r: dict[str, Any], image: Thumbnail) -> None:
    sheet.image(x, y, SIDE, image.pixels)
    middle = x + SIDE / 2
    sheet.text(middle, y + SIDE + 0.025, f"{r['similarity']:.3f}", 6.5, weight="bold")
    sheet.text(middle, y + SIDE + 0.145, short(image.caption, 17), 5.2, color=GREY)


@step(version=4)
def figure(block: Examples, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.figures.images import images

    numbers = rows(block, files)
    thumbnails = images(files, numbers)
    write_csv(table, numbers)
    draw(block, numbers, thumbnails, study.reference, out)
