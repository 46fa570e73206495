"""Two encoders side by side: the nearest-neighbour similarity of each test image by either.

Per base a row of panels (one per test set) with Spearman's rho and its bootstrap interval, and
below them the distributions by both encoders to the first base.
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
    RHO,
    edges,
    histogram,
    house_style,
    legend_above,
    panels,
    save,
)
from clipshift.study.config.names import EncoderName
from clipshift.study.config.numbers import DRAWS, Seed
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.study.layout.study import Layout

    Pairs = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    # (base, set) -> (M,) by each encoder

# More test images than this are drawn as the density of hexagons.
POINTS = 1500
BAR = 0.025


@kind(
    "encoders",
    section="similarity",
    caption="Nearest-neighbour similarity of each test image by two encoders, with Spearman's rho "
    "and its bootstrap interval; below, both distributions.",
)
class Encoders(OfBases):
    """Nearest-neighbour similarity by one encoder against another."""

    encoders: tuple[EncoderName, EncoderName] = Field(description="The two encoders.")
    draws: int = Field(
        default=1000, ge=100, le=DRAWS, description="Bootstrap draws of Spearman's rho."
    )
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")

    def files(self, at: Layout) -> Files:
        by = {e: neighbours(at, self.sets, self.bases, e) for e in self.encoders}
        return {"neighbours": by}


def read(block: Encoders, files: Files) -> Pairs:
    from clipshift.figures.nearest import read_training, same_images

    pairs = {}
    for base in block.bases:
        for name in block.sets:
            paths = [files["neighbours"][e][name][base] for e in block.encoders]
            one, other = same_images([read_training([p]) for p in paths], paths)
            pairs[base, name] = (one.similarity, other.similarity)
    return pairs


def rows(block: Encoders, pairs: Pairs) -> list[dict[str, Any]]:
    """One row per base and test set."""
    import numpy as np

    from clipshift.stats.correlation import bootstrap, spearman

    records = []
    for (base, name), (one, other) in pairs.items():

        def drawn(
            images: np.ndarray, _: Any, x: np.ndarray = one, y: np.ndarray = other
        ) -> float | None:
            return spearman(x[images], y[images])

        low, high = bootstrap(drawn, len(one), block.draws, block.seed) or (None, None)
        records.append(
            {"base": base, "test_set": name, "encoder": block.encoders[0]}
            | {"other_encoder": block.encoders[1], "n": len(one), "rho": spearman(one, other)}
            | {"rho_low": low, "rho_high": high, "median": float(np.median(one))}
            | {"other_median": float(np.median(other))}
        )
    return records


def draw(block: Encoders, pairs: Pairs, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    across = len(block.sets)
    first, second = block.encoders
    with house_style():
        count = across * (len(block.bases) + 1)
        figure, axes = panels(count, size=(2.4, 2.15), columns=across)
        for axis, (key, pair), r in zip(axes, pairs.items(), numbers, strict=False):
            axis.set_title(f"{key[1]}, to {key[0]} (n = {r['n']:,})", fontsize=9)
            _cloud(axis, *pair)
            axis.text(
                0.03, 0.97, _rho(r), transform=axis.transAxes, va="top", fontsize=7,
                bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
            axis.set_xlabel(f"similarity by {first}", fontsize=8)
            if key[1] == block.sets[0]:
                axis.set_ylabel(f"similarity by {second}", fontsize=8)
        gaps = [pairs[block.bases[0], name] for name in block.sets]
        bins = edges([v for pair in gaps for v in pair], BAR)
        for axis, name, pair in zip(axes[-across:], block.sets, gaps, strict=True):
            for value, encoder, colour, line in zip(
                pair, block.encoders, COLOURS, ("-", "--"), strict=False
            ):
                histogram(axis, value, bins, f"by {encoder}", colour, line)
            axis.set_title(f"{name}, to {block.bases[0]}", fontsize=9)
            axis.set_xlabel("nearest-neighbour similarity", fontsize=8)
            if name == block.sets[0]:
                axis.set_ylabel("test images, %", fontsize=8)
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _cloud(axis: Any, x: np.ndarray, y: np.ndarray) -> None:
    if len(x) > POINTS:
        axis.hexbin(x, y, gridsize=35, mincnt=1, bins="log", cmap="cividis_r", linewidths=0.1)
    else:
        axis.plot(x, y, "o", ms=2.2, mew=0, alpha=0.45, color=COLOURS[0])


def _rho(r: dict[str, Any]) -> str:
    if r["rho"] is None:
        return f"{RHO} undefined"
    interval = f" [{r['rho_low']:.2f}, {r['rho_high']:.2f}]" if r["rho_low"] is not None else ""
    return f"{RHO} = {r['rho']:.2f}{interval}"


@step(version=4)
def figure(block: Encoders, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    pairs = read(block, files)
    numbers = rows(block, pairs)
    write_csv(table, numbers)
    draw(block, pairs, numbers, out)
