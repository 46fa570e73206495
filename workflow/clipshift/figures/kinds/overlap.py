"""What similarity-gap pruning removes by two encoders: sizes, and the Jaccard index of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfSets, kind, margins
from clipshift.figures.style import COLOURS, house_style, label_below, legend_above, panels, save
from clipshift.study.config.names import EncoderName
from clipshift.study.config.numbers import Difference
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

Rows = list[dict[str, Any]]


@kind(
    "overlap",
    section="similarity",
    caption="Points that pruning would remove by two encoders; J: the Jaccard index of both sets.",
)
class Overlap(OfSets):
    """What similarity-gap pruning would remove by two encoders: sizes and Jaccard index."""

    encoders: tuple[EncoderName, EncoderName] = Field(description="The two encoders.")
    tolerances: list[Difference] = Field(
        default=[0.0], min_length=1, description="Tolerances of the pruning."
    )

    def files(self, at: Layout) -> Files:
        return {
            "candidates": numbered(at.embedded()),
            "margins": {e: margins(at, self.sets, e) for e in self.encoders},
        }

    def margins(self, at: Layout) -> list[tuple[str, list[str]]]:
        return [(encoder, self.sets) for encoder in self.encoders]


def rows(block: Overlap, files: Files) -> Rows:
    """One row per test set and tolerance; points that de-duplication left, by the study's encoder.

    `jaccard` is empty where neither encoder removes a point.
    """
    from clipshift.figures.removal import count, margins_of, removed

    records = []
    for name in block.sets:
        both = {encoder: files["margins"][encoder][name] for encoder in block.encoders}
        with margins_of(both, files["candidates"]) as db:
            for tolerance in sorted(block.tolerances):
                one, other = (removed([i], tolerance) for i in (0, 1))
                union = count(db, f"{one} OR {other}")
                shared = count(db, f"{one} AND {other}")
                records.append(
                    {"test_set": name, "tolerance": tolerance, "candidates": count(db)}
                    | {f"removed_by_{block.encoders[0]}": count(db, one)}
                    | {f"removed_by_{block.encoders[1]}": count(db, other)}
                    | {"removed_by_both": shared, "jaccard": shared / union if union else None}
                )
    return records


def draw(block: Overlap, numbers: Rows, out: list[Path]) -> None:
    """Bars per tolerance: removed by the first alone, by both, by the second alone."""
    first, second = block.encoders
    with house_style():
        height = 0.9 + 0.28 * len(block.tolerances)
        figure, axes = panels(len(block.sets), size=(2.4, height), sharex=True, sharey=True)
        for axis, name in zip(axes, block.sets, strict=True):
            panel_rows = [r for r in numbers if r["test_set"] == name]
            for place, r in enumerate(panel_rows):
                both = r["removed_by_both"]
                a, b = r[f"removed_by_{first}"] - both, r[f"removed_by_{second}"] - both
                looks = ((a, COLOURS[0], "", first), (both, "#444444", "", "both"))
                left = 0.0
                for width, colour, hatch, who in (*looks, (b, COLOURS[1], "///", second)):
                    share = 100 * width / r["candidates"]
                    label = f"only {who}" if who != "both" else "both"
                    axis.barh(
                        place, share, 0.62, left=left, color=colour, hatch=hatch, ec="white",
                        lw=0.4, label=label,
                    )  # fmt: skip
                    left += share
                text = "J undefined" if r["jaccard"] is None else f"J = {r['jaccard']:.2f}"
                axis.text(left + 1.5, place, text, va="center", fontsize=7)
            axis.set_title(name, fontsize=9)
        axes[0].set_yticks(
            range(len(block.tolerances)), [f"{t:g}" for t in sorted(block.tolerances)]
        )
        axes[0].set_ylim(len(block.tolerances) - 0.5, -0.5)
        axes[0].set_xlim(0, 118)
        axes[0].set_xticks(range(0, 101, 25))
        figure.supylabel("tolerance", fontsize=9)
        total = numbers[0]["candidates"]
        label_below(figure, f"removed, % of {total:,} pool points (J: Jaccard index)")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: Overlap, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    draw(block, numbers, out)
