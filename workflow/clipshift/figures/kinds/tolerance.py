"""Points removed by similarity-gap pruning over a grid of tolerances, and what models say of some.

The counts need no training: they come from stored margins. Where splits with a tolerance were
trained, their accuracy stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfSets, evaluations, kind, margins
from clipshift.figures.style import house_style, label_below, legend_above, look, panels, save
from clipshift.study.config.names import PrunedSplit
from clipshift.study.config.numbers import Difference
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

Rows = list[dict[str, Any]]
EMPTY = dict.fromkeys(("split", "test_set", "seeds", "n", "top1", "top1_low", "top1_high"))


@kind(
    "tolerance",
    section="similarity",
    caption="Points that pruning would remove at each tolerance, counted from the margins, and the "
    "accuracy of the splits that were trained.",
)
class Tolerance(OfSets):
    """Points removed by similarity-gap pruning, over a grid of tolerances."""

    tolerances: list[Difference] = Field(
        min_length=1,
        description="Grid; a point is removed iff its margin is larger. Negative ones remove "
        "points that are less close than the reference set.",
    )
    splits: list[PrunedSplit] = Field(
        default=[], description="Splits of the recipe `pruned` whose accuracy to add."
    )

    def files(self, at: Layout) -> Files:
        return {
            "candidates": numbered(at.embedded()),
            "margins": margins(at, self.sets),
            "evaluations": evaluations(at, self.splits, self.sets),
        }

    def study(self, at: Layout) -> dict[str, Any]:
        recipes = {split: at.cfg.splits[split] for split in self.splits}
        return {"recipes": {s: recipe.model_dump(mode="json") for s, recipe in recipes.items()}}

    def margins(self, at: Layout) -> list[tuple[str, list[str]]]:
        return [(at.cfg.encoder, self.sets)]


def sweep(block: Tolerance, files: Files) -> Rows:
    """One row per driving set (several: also their union) and tolerance."""
    from clipshift.figures.removal import count, margins_of, removed

    driving = {name: [i] for i, name in enumerate(block.sets)}
    if len(driving) > 1:
        driving["union"] = list(range(len(block.sets)))
    with margins_of(files["margins"], files["candidates"]) as db:
        total = count(db)
        return [
            {"driven_by": name, "tolerance": tolerance, "candidates": total, "removed": gone}
            | {"share_removed": gone / total}
            | EMPTY
            for name, columns in driving.items()
            for tolerance in sorted(block.tolerances)
            for gone in [count(db, removed(columns, tolerance))]
        ]


def trained(block: Tolerance, files: Files, recipes: Mapping[str, Any]) -> Rows:
    """One row per trained split and test set."""
    from clipshift.evaluation.summary import read_conditions

    rows = []
    for split, result in read_conditions(files["evaluations"]).items():
        recipe = recipes[split]
        total = result["points_kept"] + result["points_pruned"]
        same = set(recipe["sets"]) == set(block.sets) and len(block.sets) > 1
        for name in block.sets:
            entry = result["sets"][name]
            rows.append(
                {"driven_by": "union" if same else "+".join(recipe["sets"])}
                | {"tolerance": recipe["tolerance"], "candidates": total}
                | {"removed": result["points_pruned"]}
                | {"share_removed": result["points_pruned"] / total}
                | {"split": split, "test_set": name, "seeds": len(result["runs"])}
                | {key: entry[key] for key in ("n", "top1", "top1_low", "top1_high")}
            )
    return rows


def draw(block: Tolerance, numbers: Rows, out: list[Path]) -> None:
    swept = [r for r in numbers if r["split"] is None]
    models = [r for r in numbers if r["split"] is not None]
    driven = list(dict.fromkeys(r["driven_by"] for r in swept))
    with house_style():
        figure, axes = panels(1 + bool(models), size=(3.1, 2.5), sharex=True)
        for i, name in enumerate(driven):
            series = [r for r in swept if r["driven_by"] == name]
            x, y = [r["tolerance"] for r in series], [100 * r["share_removed"] for r in series]
            axes[0].plot(x, y, lw=1.4, ms=3.5, label=name, **look(i))
        total = swept[0]["candidates"]
        axes[0].set_ylim(bottom=0)
        axes[0].set_title("removed, by driving test set", fontsize=9)
        axes[0].set_ylabel(f"removed, % of {total:,} pool points")
        axes[0].axvline(0, color="black", lw=0.8, zorder=1)
        if models:
            _models(axes[1], models, block.sets)
            axes[1].axvline(0, color="black", lw=0.8, zorder=1)
        label_below(figure, "tolerance: a point is removed iff its margin is larger")
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _models(axis: Any, models: Rows, sets: list[str]) -> None:
    for i, name in enumerate(sets):
        series = sorted((r for r in models if r["test_set"] == name), key=lambda r: r["tolerance"])
        x = [r["tolerance"] for r in series]
        y = [100 * r["top1"] for r in series]
        low = [100 * (r["top1"] - r["top1_low"]) for r in series]
        high = [100 * (r["top1_high"] - r["top1"]) for r in series]
        axis.errorbar(x, y, [low, high], lw=1.2, ms=4.5, capsize=2, label=name, **look(i))
    axis.set_ylim(bottom=0)
    axis.set_title("accuracy of trained splits, by test set", fontsize=9)
    axis.set_ylabel("top-1 accuracy, % (bars: 95 % CI)")


@step(version=4)
def figure(block: Tolerance, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = sweep(block, files) + trained(block, files, study.recipes)
    write_csv(table, numbers)
    draw(block, numbers, out)
