"""Accuracy per class, with the mean nearest-neighbour similarity of the class's test images.

Similarity is to the training data of each split: the points it keeps and, where it adds it, the
reference set. Accuracies are means over seeds, with Clopper-Pearson intervals over the n images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfSplits, kind, predictions, training
from clipshift.figures.style import (
    RHO,
    house_style,
    label_below,
    legend_above,
    look,
    panels,
    save,
    title,
)
from clipshift.study.config.names import WholeSplit
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

# More classes than this are points of a scatter plot, fewer have a line with their name.
NAMED = 25

Rows = list[dict[str, Any]]


@kind(
    "per_class",
    section="accuracy",
    caption="Accuracy per class with its 95 % Clopper-Pearson interval; classes in the order of "
    "the mean nearest-neighbour similarity of their images to the training data.",
)
class PerClass(OfSplits):
    """Accuracy per class, against the mean nearest-neighbour similarity of the class."""

    splits: list[WholeSplit] = Field(min_length=1, description="Splits, in the order to show them.")

    def files(self, at: Layout) -> Files:
        return {
            "predictions": predictions(at, self.splits, self.sets),
            "neighbours": {split: training(at, split, self.sets) for split in self.splits},
        }


def rows(block: PerClass, files: Files) -> Rows:
    """One row per split, test set and class that has images.

    Raises:
        ClipshiftError: predictions and neighbours are about different images.
    """
    import numpy as np

    from clipshift.evaluation.views import correct_images, read
    from clipshift.figures.nearest import read_training
    from clipshift.stats.intervals import clopper_pearson

    records = []
    for split, paths in files["predictions"].items():
        for name in block.sets:
            first = read(Path(paths[name][0]))
            keys, correct = correct_images(paths[name])
            nearest = read_training(files["neighbours"][split][name])
            if nearest.keys != keys:
                raise ClipshiftError(
                    f"{paths[name][0]} and {files['neighbours'][split][name][0]} are about "
                    f"different images of {name}; delete both and run again"
                )
            for label in np.unique(first.label):
                in_class = first.label == label
                n, top1 = int(in_class.sum()), float(correct[:, in_class].mean())
                low, high = clopper_pearson(top1 * n, n)
                records.append(
                    {"split": split, "model": first.record["model"], "seeds": len(correct)}
                    | {"test_set": name, "class": first.classes[label], "n": n}
                    | {"top1": top1, "top1_low": low, "top1_high": high}
                    | {"similarity": float(nearest.similarity[in_class].mean())}
                )
    return records


def draw(block: PerClass, numbers: Rows, out: list[Path]) -> None:
    """One panel per test set: classes by name where they are few, else by their similarity."""
    per_set = {s: [r for r in numbers if r["test_set"] == s] for s in block.sets}
    most = max(len({r["class"] for r in set_rows}) for set_rows in per_set.values())
    few = most <= NAMED
    with house_style():
        size = (2.7, 0.8 + (0.12 + 0.09 * len(block.splits)) * most) if few else (2.4, 2.4)
        figure, axes = panels(len(block.sets), size=size, sharex=True, sharey=not few)
        for axis, (name, set_rows) in zip(axes, per_set.items(), strict=True):
            (_by_name if few else _by_similarity)(axis, set_rows, block.splits)
            first = [r for r in set_rows if r["split"] == block.splits[0]]
            title(axis, name, sum(r["n"] for r in first))
        if few:
            axes[0].set_xlim(-4, 104)
            axes[0].set_xticks(range(0, 101, 25))
            label_below(
                figure,
                "zero-shot top-1 accuracy, % (bars: 95 % CI; in brackets: mean "
                f"nearest-neighbour similarity to the training data of {block.splits[0]}, n)",
            )
        else:
            axes[0].set_ylim(0, 100)
            figure.supylabel("zero-shot top-1 accuracy of the class, %", fontsize=9)
            label_below(figure, "mean nearest-neighbour similarity of the class")
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _by_name(axis: Any, set_rows: Rows, splits: list[str]) -> None:
    first = sorted((r for r in set_rows if r["split"] == splits[0]), key=lambda r: -r["similarity"])
    place = {r["class"]: i for i, r in enumerate(first)}
    for i, split in enumerate(splits):
        points = [r for r in set_rows if r["split"] == split]
        offset = (i - (len(splits) - 1) / 2) * 0.7 / len(splits)
        y = [place[r["class"]] + offset for r in points]
        x = [100 * r["top1"] for r in points]
        low = [v - 100 * r["top1_low"] for v, r in zip(x, points, strict=True)]
        high = [100 * r["top1_high"] - v for v, r in zip(x, points, strict=True)]
        axis.errorbar(
            x, y, xerr=[low, high], ls="none", lw=1.0, ms=3.5, capsize=1.5, label=split, **look(i)
        )
    labels = [f"{r['class']} [{r['similarity']:.2f}, {r['n']}]" for r in first]
    axis.set_yticks(range(len(first)), labels, fontsize=7)
    axis.set_ylim(len(first) - 0.5, -0.5)


def _by_similarity(axis: Any, set_rows: Rows, splits: list[str]) -> None:
    import numpy as np

    from clipshift.stats.correlation import spearman

    for i, split in enumerate(splits):
        points = [r for r in set_rows if r["split"] == split]
        x, y = (np.array([r[k] for r in points]) for k in ("similarity", "top1"))
        rho = spearman(x, y)
        label = f"{split}" if len(splits) > 1 else f"{split}, single classes"
        style = {"color": look(i)["color"], "marker": look(i)["marker"]}
        axis.plot(x, 100 * y, ls="none", ms=2.5, alpha=0.6, label=label, **style)
        text = f"{RHO} = {rho:.2f}" if rho is not None else f"{RHO} undefined"
        axis.text(
            0.03, 0.97 - 0.08 * i, text, transform=axis.transAxes, va="top", fontsize=7,
            color=style["color"],
        )  # fmt: skip


@step(version=4)
def figure(block: PerClass, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    draw(block, numbers, out)
