"""Density: how many points of each base lie above a similarity, per test image.

The nearest neighbour alone does not say how many neighbours there are. Per test set and base the
median over the test images of the number of points above each similarity of the grid, and the band
between two quantiles.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfBases, kind
from clipshift.figures.style import (
    COLOURS,
    LINES,
    base_name,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.config.numbers import Share
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.study.layout.study import Layout


@kind(
    "density",
    section="similarity",
    caption="Number of points of each base above a similarity: median over the test images, and "
    "the band between two quantiles.",
)
class Density(OfBases):
    """How many points of each base lie above a similarity, over the test images."""

    band: tuple[Share, Share] = Field(
        default=(0.1, 0.9), description="Quantiles over the test images between which to shade."
    )

    def files(self, at: Layout) -> Files:
        return {"density": {s: {b: at.density(b, s) for b in self.bases} for s in self.sets}}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The grid (G,) ascending, and counts (M, G) of the test images in the order of keys.

    Raises:
        ClipshiftError: a test image lacks a similarity of the grid.
    """
    import numpy as np

    table = read_parquet(path, ["test_key", "above", "count"]).sort_by(
        [("test_key", "ascending"), ("above", "ascending")]
    )
    grid = np.unique(table["above"].to_numpy())
    images = len(table) // max(1, len(grid))
    above = table["above"].to_numpy()
    if not images or not np.array_equal(above, np.tile(grid, images)):
        raise ClipshiftError(f"{path} has no whole grid for every image; delete it and run again")
    return grid, table["count"].to_numpy().reshape(images, len(grid))


def rows(block: Density, files: Files) -> list[dict[str, Any]]:
    """One row per test set, base and similarity of the grid."""
    import numpy as np

    records = []
    for name, bases in files["density"].items():
        for base, path in bases.items():
            grid, counts = read(Path(path))
            low, median, high = np.quantile(counts, [block.band[0], 0.5, block.band[1]], axis=0)
            for g, above in enumerate(grid):
                records.append(
                    {
                        "test_set": name,
                        "base": base,
                        "n": len(counts),
                        "above": float(above),
                        "median": float(median[g]),
                        "low": float(low[g]),
                        "high": float(high[g]),
                        "mean": float(counts[:, g].mean()),
                        "share_without": float((counts[:, g] == 0).mean()),
                    }
                )
    return records


def draw(block: Density, numbers: list[dict[str, Any]], reference: str, out: list[Path]) -> None:
    with house_style():
        figure, axes = panels(len(block.sets), sharex=True, sharey=True)
        for axis, name in zip(axes, block.sets, strict=True):
            for i, base in enumerate(block.bases):
                series = [r for r in numbers if (r["test_set"], r["base"]) == (name, base)]
                x = [r["above"] for r in series]
                colour = COLOURS[i % len(COLOURS)]
                low, high = ([r[k] for r in series] for k in ("low", "high"))
                axis.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
                median = [r["median"] for r in series]
                ends = median.index(0) + 1 if 0 in median else len(median)  # zero from there on
                axis.plot(
                    x[:ends], median[:ends], color=colour, ls=LINES[i % len(LINES)],
                    marker="os^Dv"[i % 5], ms=3, lw=1.4, label=base_name(base, reference),
                )  # fmt: skip
            title(axis, name, next(r["n"] for r in numbers if r["test_set"] == name))
        # Counts reach over decades, and zero needs a place.
        axes[0].set_yscale("symlog", linthresh=1, linscale=0.5)
        axes[0].set_ylim(bottom=0)
        band = " to ".join(f"{100 * q:g}" for q in block.band)
        figure.supylabel("points above", fontsize=9)
        label_below(
            figure, f"similarity (line: median over the test images; band: {band} % of them)"
        )
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: Density, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    draw(block, numbers, study.reference, out)
