"""The similarity gap: how close are the test images to each base (pool splits, reference set)?

Per test set the distribution of the nearest-neighbour similarity of its images to each base, the
median as a vertical line. The table says how many images are closer to a base than to the first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfBases, kind, neighbours
from clipshift.figures.style import (
    COLOURS,
    LINES,
    base_name,
    edges,
    histogram,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.study.layout.study import Layout

    Values = dict[str, dict[str, np.ndarray]]  # test set -> base -> (M,) similarities


@kind(
    "similarity_gap",
    section="similarity",
    caption="Nearest-neighbour similarity of each test set to each base; vertical lines: medians.",
)
class Gap(OfBases):
    """Distribution of the nearest-neighbour similarity of each test set to each base."""

    width: float = Field(default=0.025, gt=0, le=1, description="Width of a bar of similarity.")

    def files(self, at: Layout) -> Files:
        return {"neighbours": neighbours(at, self.sets, self.bases)}


def read(files: Files) -> Values:
    """Nearest-neighbour similarities, images of a set in one order for all bases.

    A base without points is left out.
    """
    from clipshift.figures.nearest import read_nearest, read_training

    values: Values = {}
    for name, bases in files["neighbours"].items():
        read_training(list(bases.values()))  # one of them has points, all the same test images
        parts = {base: read_nearest(Path(path)) for base, path in bases.items()}
        values[name] = {b: part.similarity for b, part in parts.items() if part.keys}
    return values


def rows(values: Values) -> list[dict[str, Any]]:
    """One row per test set and base."""
    import numpy as np

    records = []
    for name, bases in values.items():
        first = next(iter(bases))
        for base, value in bases.items():
            quantiles = np.quantile(value, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
            marks = ("lowest", "q05", "q25", "median", "q75", "q95", "highest")
            records.append(
                {"test_set": name, "base": base, "n": len(value), "mean": float(value.mean())}
                | dict(zip(marks, map(float, quantiles), strict=True))
                | {
                    "compared_with": first,
                    "share_closer": float((value > bases[first]).mean()),
                    "share_equal": float((value == bases[first]).mean()),
                }
            )
    return records


def draw(block: Gap, values: Values, reference: str, out: list[Path]) -> None:
    bins = edges([v for bases in values.values() for v in bases.values()], block.width)
    with house_style():
        figure, axes = panels(len(values), size=(2.4, 2.0), sharex=True, sharey=True)
        for axis, (name, bases) in zip(axes, values.items(), strict=True):
            for i, (base, value) in enumerate(bases.items()):
                colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
                histogram(axis, value, bins, f"to {base_name(base, reference)}", colour, line)
            title(axis, name, len(next(iter(bases.values()))))
        figure.supylabel("test images, %", fontsize=9)
        label_below(figure, "nearest-neighbour similarity (vertical line: median)")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: Gap, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    values = read(files)
    write_csv(table, rows(values))
    draw(block, values, study.reference, out)
