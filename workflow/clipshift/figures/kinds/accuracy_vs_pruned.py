"""Accuracy against the pool points pruned, one line per way of pruning.

Points are means over seeds with Clopper-Pearson intervals over the n test images; small dots are
single seeds. Published points, where the block asks for them, are hollow and marked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import PUBLISHED_NOTE, OfSets, evaluations, kind
from clipshift.figures.published import MARK, published
from clipshift.figures.style import (
    COLOURS,
    GREY,
    PUBLISHED,
    house_style,
    label_below,
    legend_above,
    look,
    panels,
    save,
    title,
)
from clipshift.study.config.data import Block
from clipshift.study.config.names import TestSetName, TrainedSplit
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

Rows = list[dict[str, Any]]


class PublishedCurve(Block):
    """Published points to draw beside a curve."""

    sets: dict[TestSetName, Literal["sketch", "val"]] = Field(
        description="Test set -> the published test set drawn in its panel."
    )
    lines: dict[str, Literal["rand", "near", "far"]] = Field(
        description="Line label -> the published way of pruning drawn in its colour."
    )


@kind(
    "accuracy_vs_pruned",
    section="accuracy",
    caption="Accuracy against the pool points pruned. Bars: 95 % Clopper-Pearson interval of the "
    "mean over seeds; small dots: single seeds. " + PUBLISHED_NOTE,
)
class Curve(OfSets):
    """Accuracy against points pruned: the splits of each line, drawn with their intervals."""

    baseline: TrainedSplit = Field(description="Split drawn as the star at zero points pruned.")
    lines: dict[str, list[TrainedSplit]] = Field(description="Line label -> its splits.")
    axis: Literal["number", "share"] = Field(
        default="number", description="Points pruned as a number, or as a share of the pool."
    )
    published: PublishedCurve | None = Field(
        default=None,
        description="Published points to draw beside ours (needs `axis: share`: the pools differ "
        "in size).",
    )

    @property
    def splits(self) -> list[str]:
        """Every split of the figure once: the baseline, then those of the lines."""
        return list(dict.fromkeys([self.baseline, *(s for v in self.lines.values() for s in v)]))

    @model_validator(mode="after")
    def _published_fits(self) -> Curve:
        if self.published and self.axis != "share":
            raise ValueError("published points need `axis: share`: the pools differ in size")
        if self.published and (odd := self.published.lines.keys() - self.lines.keys()):
            raise ValueError(f"published.lines: no line is called {sorted(odd)}")
        return self

    def files(self, at: Layout) -> Files:
        return {"evaluations": evaluations(at, self.splits, self.sets)}


def rows(curve: Curve, results: dict[str, dict[str, Any]]) -> Rows:
    """One row per test set, line and split; the baseline opens every line.

    Args:
        results: accuracies of every split of the curve, see `read_conditions`.
    """
    records: Rows = []
    for name in curve.sets:
        for line, splits in curve.lines.items():
            for split in [curve.baseline, *splits]:
                result, entry = results[split], results[split]["sets"][name]
                pruned = result["points_pruned"]
                records.append(
                    {
                        "test_set": name,
                        "line": line,
                        "series": "ours",
                        "split": split,
                        "points_pruned": pruned,
                        "share_pruned": pruned / (pruned + result["points_kept"]),
                        "seeds": len(result["runs"]),
                        "n": entry["n"],
                        "top1": entry["top1"],
                        "top1_low": entry["top1_low"],
                        "top1_high": entry["top1_high"],
                        "top1_of_seeds": " ".join(
                            f"{v:.6f}" for v in entry["top1_of_seeds"].values()
                        ),
                    }
                )
        records += _published_rows(curve, name, list(records[0]))
    return records


def _published_rows(curve: Curve, name: str, columns: list[str]) -> Rows:
    if curve.published is None or name not in curve.published.sets:
        return []
    other = curve.published.sets[name]
    source, pool = published()["curves"], published()["pool"]["points"]
    return [
        dict.fromkeys(columns)
        | {
            "test_set": name,
            "line": line,
            "series": f"{MARK}: {other}",
            "split": theirs,
            "points_pruned": pruned,
            "share_pruned": pruned / pool,
            "seeds": 1,
            "n": published()["sizes"][other],
            "top1": top1,
        }
        for line, theirs in curve.published.lines.items()
        for pruned, top1 in zip(source["points_pruned"], source[other][theirs], strict=True)
    ]


def draw(curve: Curve, numbers: Rows, levels: dict[str, dict[str, float]], out: list[Path]) -> None:
    """One panel per test set.

    Args:
        levels: per test set its `chance` and `majority`.
    """
    key, scale = ("points_pruned", 1) if curve.axis == "number" else ("share_pruned", 100)
    with house_style():
        figure, axes = panels(len(curve.sets), sharex=True, sharey=True)
        for axis, name in zip(axes, curve.sets, strict=True):
            panel_rows = [r for r in numbers if r["test_set"] == name]
            ours = [r for r in panel_rows if r["series"] == "ours"]
            widest = max(scale * r[key] for r in ours)
            for i, line in enumerate(curve.lines):
                # Beside one another, so that the bars of one line do not cover those of the next.
                shift = (i - (len(curve.lines) - 1) / 2) * 0.008 * widest
                theirs = [r for r in panel_rows if r["series"] != "ours" and r["line"] == line]
                _published(axis, theirs, scale, key, COLOURS[i % len(COLOURS)])
                points = sorted((r for r in ours if r["line"] == line), key=lambda r: r[key])
                x = [scale * p[key] + (shift if p[key] else 0) for p in points]
                _line(axis, x, points, line, i)
            star = next(r for r in ours if r["split"] == curve.baseline)
            axis.plot(
                [scale * star[key]], [100 * star["top1"]], "*", ms=11, color="black", zorder=5,
                label=f"{curve.baseline} (no pruning)",
            )  # fmt: skip
            for label, level, dashes in (
                ("chance", "chance", ":"),
                ("largest class", "majority", "-."),
            ):
                axis.axhline(100 * levels[name][level], color=GREY, lw=1, ls=dashes, label=label)
            title(axis, name, star["n"])
        highest = max(r["top1_high"] or r["top1"] for r in numbers)
        axes[0].set_ylim(0, 105 * highest)  # shared by all panels
        figure.supylabel("zero-shot top-1 accuracy, %", fontsize=9)
        seeds = numbers[0]["seeds"]
        quantity = "pool points pruned" + (", % of the pool" if curve.axis == "share" else "")
        seeds_note = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
        label_below(figure, f"{quantity} (bars: 95 % CI; {seeds_note})")
        legend_above(figure, axes)
        save(figure, out, curve.caption)


def _line(axis: Any, x: list[float], points: Rows, label: str, i: int) -> None:
    y = [100 * p["top1"] for p in points]
    low = [v - 100 * p["top1_low"] for v, p in zip(y, points, strict=True)]
    high = [100 * p["top1_high"] - v for v, p in zip(y, points, strict=True)]
    axis.errorbar(x, y, [low, high], lw=1.4, ms=4.5, capsize=2.5, label=label, **look(i))
    for at, point in zip(x, points, strict=True):
        seeds = [100 * float(v) for v in point["top1_of_seeds"].split()]
        axis.plot([at] * len(seeds), seeds, ".", ms=3, color=look(i)["color"], alpha=0.6)


def _published(axis: Any, points: Rows, scale: int, key: str, colour: str) -> None:
    if points:
        x = [scale * p[key] for p in points]
        y = [100 * p["top1"] for p in points]
        axis.plot(x, y, marker="D", color=colour, **PUBLISHED)
        axis.plot([], [], marker="D", color=GREY, label=f"{MARK}, same colours", **PUBLISHED)


@step(version=4)
def figure(block: Curve, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.summary import read_conditions

    results = read_conditions(files["evaluations"])
    numbers = rows(block, results)
    write_csv(table, numbers)
    draw(block, numbers, results[block.baseline]["sets"], out)
