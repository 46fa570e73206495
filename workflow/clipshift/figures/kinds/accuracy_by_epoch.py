"""Accuracy after every epoch of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import kind
from clipshift.figures.style import (
    COLOURS,
    LINES,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.config.names import SetName, TrainedSplit
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


@kind(
    "accuracy_by_epoch",
    section="accuracy",
    caption="Zero-shot top-1 accuracy after every epoch, a line for each training; bands are "
    "Clopper-Pearson intervals (95 %) over the images.",
)
class AccuracyByEpoch(FigureBlock):
    """Accuracy after every epoch, of splits whose model has `epoch_sets`."""

    splits: list[TrainedSplit] = Field(min_length=1, description="Splits, a colour each.")
    sets: list[SetName] = Field(
        min_length=1, description="Sets of the model's `epoch_sets`, one panel each."
    )

    def files(self, at: Layout) -> Files:
        """Per split the reports of its runs after each epoch.

        Raises:
            ClipshiftError: a model is not evaluated on a set after every epoch.
        """
        reports = {}
        for split in self.splits:
            epochs, sets = at.cfg.models[at.cfg.model_of(split)].by_epoch
            if lacking := [name for name in self.sets if name not in sets]:
                raise ClipshiftError(
                    f"figures.accuracy_by_epoch: the model of the split {split!r} lacks {lacking} "
                    "in its `epoch_sets`"
                )
            names = [f"{run}-epoch{e}" for run in at.runs(split) for e in epochs]
            reports[split] = at.evaluations(names)
        return {"reports": reports}


def rows(block: AccuracyByEpoch, files: Files) -> list[dict[str, Any]]:
    """One row per split, test set, seed and epoch."""
    records = []
    for split, paths in files["reports"].items():
        reports = [read_json(Path(path)) for path in paths]
        for name in block.sets:
            for report in reports:
                entry = report["sets"][name]
                records.append(
                    {"split": split, "test_set": name}
                    | {k: report[k] for k in ("seed", "epoch", "samples_seen")}
                    | {k: entry[k] for k in ("n", "top1", "top1_low", "top1_high")}
                )
    return records


def draw(block: AccuracyByEpoch, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per test set, one line per split and seed."""
    with house_style():
        figure, axes = panels(len(block.sets), size=(2.6, 2.4), sharex=True)
        for axis, name in zip(axes, block.sets, strict=True):
            shown = [r for r in numbers if r["test_set"] == name]
            for place, split in enumerate(block.splits):
                colour = COLOURS[place % len(COLOURS)]
                of_split = [r for r in shown if r["split"] == split]
                for number, seed in enumerate(dict.fromkeys(r["seed"] for r in of_split)):
                    line = [r for r in of_split if r["seed"] == seed]
                    x, y, low, high = (
                        [r[key] if key == "epoch" else 100 * r[key] for r in line]
                        for key in ("epoch", "top1", "top1_low", "top1_high")
                    )
                    style = LINES[number % len(LINES)]
                    axis.plot(x, y, color=colour, ls=style, lw=1.2, label=f"{split}, seed {seed}")
                    axis.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            title(axis, name, shown[0]["n"])
        figure.supylabel("zero-shot top-1 accuracy, %", fontsize=9)
        label_below(figure, "epoch")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=1)
def figure(
    block: AccuracyByEpoch, files: Files, study: Study, table: Path, out: list[Path]
) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    draw(block, numbers, out)
