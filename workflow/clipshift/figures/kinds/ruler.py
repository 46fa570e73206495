"""The similarity ruler: pairs of a test image and a neighbour, from most to least similar.

What does a similarity of 0.7 look like? Pairs are chosen at equal distances between the largest and
the lowest similarity that the neighbours hold.
"""

from __future__ import annotations

from math import ceil, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.contact_sheet import Sheet, short
from clipshift.figures.kind import Shown, kind
from clipshift.figures.style import GREY, house_style
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.figures.images import Thumbnail

Rows = list[dict[str, Any]]

SIDE, GAP, LEFT = 0.74, 0.07, 0.62  # inches: image, space between, names of the rows
TICK = 0.05


@kind(
    "ruler",
    section="similarity",
    caption="The similarity ruler: pairs of a test image and one of its neighbours.",
)
class Ruler(Shown):
    """Pairs of a test image and a neighbour, from the most to the least similar."""

    steps: int = Field(
        default=9,
        ge=2,
        le=1000,
        description="Pairs, at equal distances between the ends of the ruler.",
    )


def choose(candidates: Rows, steps: int) -> Rows:
    """Per point of the ruler the pair that is nearest to it, each image at most once.

    Ties go to the lowest keys, so the choice does not depend on the order of the rows. Fewer pairs
    than points give a shorter ruler.
    """
    import numpy as np

    values = np.array([r["similarity"] for r in candidates])
    chosen: Rows = []
    for target in np.linspace(values.max(), values.min(), steps):
        used = {r[k] for r in chosen for k in ("test_key", "key")}
        free = [r for r in candidates if r["test_key"] not in used and r["key"] not in used]
        if free:
            chosen.append(
                min(free, key=lambda r: (abs(r["similarity"] - target), r["test_key"], r["key"]))
            )
    return sorted(chosen, key=lambda r: (-r["similarity"], r["test_key"]))


def rows(block: Ruler, files: Files) -> Rows:
    from clipshift.figures.nearest import read_neighbours

    candidates = [
        {"test_set": name, "base": base, **r}
        for name, bases in files["neighbours"].items()
        for base, path in bases.items()
        for r in read_neighbours(Path(path)).to_pylist()
    ]
    return choose(candidates, block.steps)


def draw(numbers: Rows, found: dict[str, dict[str, Thumbnail]], out: list[Path]) -> None:
    step = SIDE + GAP
    width = LEFT + step * len(numbers) + 0.25
    first, second = 0.36, 0.36 + SIDE + 0.08
    rule = second + SIDE + 0.62
    with house_style(arranged=False):
        sheet = Sheet(width, rule + 0.42)
        for y, row_label in ((first, "test\nimage"), (second, "training\nimage")):
            sheet.text(LEFT - 0.08, y + SIDE / 2, row_label, 7, ha="right", va="center")
        high, low = numbers[0]["similarity"], numbers[-1]["similarity"]
        left, right = LEFT + SIDE / 2, LEFT + step * (len(numbers) - 1) + SIDE / 2
        scale = (right - left) / (high - low) if high > low else 0.0
        for i, r in enumerate(numbers):
            x = LEFT + step * i
            middle, exact = x + SIDE / 2, left + (high - r["similarity"]) * scale
            sheet.text(middle, 0.14, f"{r['similarity']:.3f}", 7.5, weight="bold")
            sheet.image(x, first, SIDE, found[r["test_set"]][r["test_key"]].pixels)
            neighbour = found[""][r["key"]]
            sheet.image(x, second, SIDE, neighbour.pixels)
            sheet.text(
                middle, second + SIDE + 0.03, short(neighbour.caption, 17, 2), 5.2, color=GREY
            )
            sheet.line([middle, exact], [second + SIDE + 0.3, rule])
            sheet.line([exact], [rule], marker="v", ms=4, color="black")
        _scale(sheet, high, low, left, right, scale, rule)
        sheet.text(LEFT - 0.08, rule, "similarity", 7, ha="right", va="center")
        sheet.save(out, Ruler.caption)


def _scale(
    sheet: Sheet, high: float, low: float, left: float, right: float, scale: float, y: float
) -> None:
    """The ruler itself, with a tick at each multiple of 0.05, the next beyond each end too."""
    first, last = floor(round(low / TICK, 9)), ceil(round(high / TICK, 9))
    ends = [max(left + (high - last * TICK) * scale, left - SIDE / 2)]
    ends.append(min(left + (high - first * TICK) * scale, right + SIDE / 2))
    sheet.line(ends, [y, y], color="black", lw=1)
    for number in range(first, last + 1):
        x = left + (high - number * TICK) * scale
        if not ends[0] - 1e-9 <= x <= ends[1] + 1e-9:
            continue
        whole = number % 2 == 0
        sheet.line([x, x], [y, y + (0.1 if whole else 0.06)], color="black", lw=0.8)
        if whole:
            sheet.text(x, y + 0.13, f"{number * TICK:.1f}", 7)


@step(version=4)
def figure(block: Ruler, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.figures.images import images

    numbers = rows(block, files)
    thumbnails = images(files, numbers)
    write_csv(table, numbers)
    draw(numbers, thumbnails, out)
