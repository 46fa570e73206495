"""Accuracy over seeds: trainings of one condition (split and model) that differ in nothing else.

Mean, sample standard deviation and Student's t interval over the seeds. It speaks of the chance of
training, the Clopper-Pearson interval beside it of the choice of test images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfSplits, kind, predictions
from clipshift.figures.style import (
    COLOURS,
    GREY,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


@kind(
    "seeds",
    section="accuracy",
    caption="Trainings that differ in nothing but their seed: single seeds, mean and Student's t "
    "interval over the seeds; behind them the Clopper-Pearson interval over the images. The t "
    "interval of very few seeds is wide, and cut at 0 and 100 %.",
)
class Seeds(OfSplits):
    """Accuracy over trainings that differ in nothing but their seed."""

    def files(self, at: Layout) -> Files:
        return {"predictions": predictions(at, self.splits, self.sets)}


def rows(block: Seeds, files: Files) -> list[dict[str, Any]]:
    """One row per split and test set.

    Raises:
        ClipshiftError: two runs differ in more than their seed.
    """
    from clipshift.evaluation.views import measure, seeds_of
    from clipshift.stats.correlation import mean_interval
    from clipshift.stats.intervals import clopper_pearson

    records = []
    for split, paths in files["predictions"].items():
        for name in block.sets:
            runs = seeds_of([Path(path) for path in paths[name]])
            entries = {seed: measure(one) for seed, one in runs.items()}
            values = [entry["top1"] for entry in entries.values()]
            first = next(iter(runs.values()))
            n = len(first.keys)
            over = mean_interval(values)
            mean = sum(values) / len(values)
            low, high = clopper_pearson(min(max(mean * n, 0), n), n)
            records.append(
                {
                    "split": split,
                    "model": first.record["model"],
                    "test_set": name,
                    "seeds": len(values),
                }
                | {"n": n, "mean": over["mean"], "sd": over["sd"]}
                | {"t_low": over["low"], "t_high": over["high"]}
                | {"images_low": low, "images_high": high}
                | {"top1_of_seeds": " ".join(f"{s}:{e['top1']:.6f}" for s, e in entries.items())}
            )
    return records


def draw(block: Seeds, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per test set, one line per split."""
    # One panel has its legend in four lines.
    height = 0.24 * len(block.splits) + (0.5 if len(block.sets) > 1 else 1.1)
    with house_style():
        figure, axes = panels(len(block.sets), size=(2.2, height), sharex=True, sharey=True)
        for axis, name in zip(axes, block.sets, strict=True):
            panel_rows = [r for r in numbers if r["test_set"] == name]
            for place, r in enumerate(panel_rows):
                _row(axis, place, r)
            title(axis, name, panel_rows[0]["n"])
        axes[0].set_yticks(range(len(block.splits)), block.splits)
        axes[0].set_ylim(len(block.splits) - 0.5, -0.5)
        axes[0].set_xlim(0, 100)
        axes[0].set_xticks(range(0, 81, 20))  # the end of a panel is the beginning of the next
        label_below(figure, "zero-shot top-1 accuracy, %")
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _row(axis: Any, place: int, r: dict[str, Any]) -> None:
    colour = COLOURS[0]
    axis.plot(
        [100 * r["images_low"], 100 * r["images_high"]], [place, place], color=COLOURS[1], lw=5,
        alpha=0.45, solid_capstyle="butt", label="95 % CI over images",
    )  # fmt: skip
    if r["sd"] is not None:
        ends = [max(0.0, 100 * r["t_low"]), min(100.0, 100 * r["t_high"])]
        axis.plot(ends, [place, place], color=colour, lw=1.2, label="95 % CI over seeds (t)")
    single = [100 * float(v.split(":")[1]) for v in r["top1_of_seeds"].split()]
    axis.plot(single, [place] * len(single), "|", ms=7, color=GREY, label="single seeds")
    axis.plot([100 * r["mean"]], [place], "o", ms=4.5, color=colour, label="mean")


@step(version=4)
def figure(block: Seeds, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    draw(block, numbers, out)
