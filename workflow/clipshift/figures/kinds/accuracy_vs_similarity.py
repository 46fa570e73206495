"""Accuracy against the nearest-neighbour similarity of the test images, in bins.

The similarity of a test image is that of its nearest neighbour in the training data: the points
that the split keeps and, where it adds the reference set, that too. The table has one row per bin
and test set, ours and published; beside it (`.rho.csv`) Spearman's rho over the bins and over the
images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import PUBLISHED_NOTE, OfSets, kind, predictions, training
from clipshift.figures.published import MARK, published
from clipshift.figures.style import (
    COLOURS,
    GREY,
    PUBLISHED,
    RHO,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
    title,
)
from clipshift.study.config.names import TestSetName, WholeSplit
from clipshift.study.config.numbers import DRAWS, Seed
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.study.layout.study import Layout

Rows = list[dict[str, Any]]
Series = Literal["sketch", "val", "r"]


@kind(
    "accuracy_vs_similarity",
    section="accuracy",
    caption="Accuracy of the test images in bins of their nearest-neighbour similarity to the "
    "training data, with Clopper-Pearson intervals and n per bin; Spearman's rho over the bins and "
    "over the images with bootstrap intervals. " + PUBLISHED_NOTE,
    more=("rho",),
)
class Binned(OfSets):
    """Accuracy against the nearest-neighbour similarity to the training data, in bins."""

    split: WholeSplit = Field(description="Split whose models are measured.")
    width: float = Field(default=0.05, gt=0, le=1, description="Width of a bin of similarity.")
    draws: int = Field(
        default=1000, ge=100, le=DRAWS, description="Bootstrap draws of Spearman's rho."
    )
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")
    published: dict[TestSetName, Series] = Field(
        default={}, description="Test set -> the published points to draw beside ours."
    )

    def files(self, at: Layout) -> Files:
        return {
            "neighbours": training(at, self.split, self.sets),
            "predictions": predictions(at, [self.split], self.sets)[self.split],
        }


def bin_of(similarity: np.ndarray, width: float) -> np.ndarray:
    """Number of the bin [b * width, (b + 1) * width) of each similarity; the last one is closed.

    >>> import numpy as np
    >>> bin_of(np.array([0.1, 0.149, 0.15, 0.999, 1.0, 1.0004]), 0.05).tolist()
    [2, 2, 3, 19, 19, 19]
    """
    import numpy as np

    last = int(np.ceil(round(1 / width, 9))) - 1
    # 0.15 / 0.05 is 2.9999999999999996: an edge belongs to the bin above it all the same.
    number = np.floor(np.round(similarity / width, 9)).astype(int)
    bins: np.ndarray = np.minimum(number, last)
    return bins


def bin_rows(similarity: np.ndarray, correct: np.ndarray, width: float) -> Rows:
    """One row per bin that holds images.

    Args:
        similarity: (N,) of the test images.
        correct: (S, N), per seed and image.
    """
    import numpy as np

    from clipshift.stats.intervals import clopper_pearson

    number = bin_of(similarity, width)
    rows = []
    for b in np.unique(number):
        in_bin = number == b
        n = int(in_bin.sum())
        top1 = float(correct[:, in_bin].mean())
        low, high = clopper_pearson(top1 * n, n)
        rows.append(
            {
                "bin_low": round(float(b) * width, 9),
                "bin_high": round(float(b + 1) * width, 9),
                "n": n,
                "similarity": float(similarity[in_bin].mean()),
                "top1": top1,
                "top1_low": low,
                "top1_high": high,
            }
        )
    return rows


def rho_over_bins(similarity: np.ndarray, correct: np.ndarray, width: float) -> float | None:
    """Spearman's rho between mean similarity and accuracy of the bins.

    Args:
        similarity, correct: (N,) of the test images, the latter a mean over seeds.
    """
    import numpy as np

    from clipshift.stats.correlation import spearman

    number = bin_of(similarity, width)
    number = number - number.min()  # embeddings may point away from each other
    n = np.bincount(number)
    filled = n > 0
    means = (np.bincount(number, v)[filled] / n[filled] for v in (similarity, correct))
    # Equal accuracies of two bins must stay equal, whatever the order of summation.
    return spearman(*(np.round(mean, 12) for mean in means))


def rho_rows(similarity: np.ndarray, correct: np.ndarray, block: Binned) -> Rows:
    """Spearman's rho over bins and over images; images and seeds are drawn with replacement."""
    import numpy as np

    from clipshift.stats.correlation import bootstrap, spearman

    seeds, n = correct.shape

    def over_bins(x: np.ndarray, y: np.ndarray) -> float | None:
        return rho_over_bins(x, y, block.width)

    rows = []
    for over, statistic in (("bins", over_bins), ("images", spearman)):

        def drawn(
            images: np.ndarray, rng: np.random.Generator, statistic: Any = statistic
        ) -> float | None:
            chosen = correct[rng.integers(0, seeds, seeds)].mean(0)
            value: float | None = statistic(similarity[images], chosen[images])
            return value

        low, high = bootstrap(drawn, n, block.draws, block.seed) or (None, None)
        rho = statistic(similarity, correct.mean(0))
        count = len(np.unique(bin_of(similarity, block.width))) if over == "bins" else n
        rows.append({"over": over, "n": count, "rho": rho, "rho_low": low, "rho_high": high})
    return rows


def published_rows(name: str) -> tuple[Rows, Rows]:
    """Published bins and their rho, in the columns of ours; what was not published is empty."""
    series = published()["bins"][name]
    bins = [
        dict.fromkeys(("bin_low", "bin_high", "n"))
        | {"similarity": x, "top1": y, "top1_low": None, "top1_high": None}
        for x, y in zip(series["similarity"], series["top1"], strict=True)
    ]
    rho = {"over": "bins", "n": len(bins), "rho": series["rho"], "rho_low": None, "rho_high": None}
    return bins, [rho]


def numbers(block: Binned, files: Files) -> tuple[Rows, Rows]:
    """All rows of the bins and of the correlations.

    Raises:
        ClipshiftError: similarities and predictions are about different images.
    """
    from clipshift.evaluation.views import correct_images
    from clipshift.figures.nearest import read_training

    bins: Rows = []
    rhos: Rows = []
    for name in block.sets:
        nearest = read_training(files["neighbours"][name])
        keys, correct = correct_images(files["predictions"][name])
        if keys != nearest.keys:
            raise ClipshiftError(
                f"{files['predictions'][name][0]} and {files['neighbours'][name][0]} are about "
                f"different images of {name}; delete both and run again"
            )
        ours = {"test_set": name, "series": block.split, "seeds": len(correct)}
        bins += [ours | row for row in bin_rows(nearest.similarity, correct, block.width)]
        rhos += [ours | row for row in rho_rows(nearest.similarity, correct, block)]
        if name in block.published:
            other = block.published[name]
            theirs = {"test_set": name, "series": f"{MARK}: {other}", "seeds": 1}
            published_bins = published_rows(other)
            bins += [theirs | row for row in published_bins[0]]
            rhos += [theirs | row for row in published_bins[1]]
    return bins, rhos


def draw(block: Binned, bins: Rows, rhos: Rows, out: list[Path]) -> None:
    with house_style():
        figure, axes = panels(len(block.sets), sharex=True, sharey=True)
        for axis, name in zip(axes, block.sets, strict=True):
            panel_rows = [r for r in bins if r["test_set"] == name]
            ours = [r for r in panel_rows if r["series"] == block.split]
            theirs = [r for r in panel_rows if r["series"] != block.split]
            if theirs:
                x = [r["similarity"] for r in theirs]
                y = [100 * r["top1"] for r in theirs]
                axis.plot(x, y, marker="D", color=GREY, label=MARK, **PUBLISHED)
            _ours(axis, ours, f"trained on {block.split}")
            title(axis, name, sum(r["n"] for r in ours))
            text = [_rho_text(r, block.split) for r in rhos if r["test_set"] == name]
            axis.text(
                0.03, 0.985, "\n".join(text), transform=axis.transAxes, va="top", fontsize=6.5,
                linespacing=1.35, bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
        longest = max(len(f"{r['n']:,}") for r in bins if r["n"] is not None)
        axes[0].set_ylim(-8 - 4.8 * longest, 138)
        axes[0].set_yticks(range(0, 101, 20))
        figure.supylabel("zero-shot top-1 accuracy, %", fontsize=9)
        label_below(
            figure,
            "nearest-neighbour similarity to the training data (bars: 95 % CI; small numbers: n)",
        )
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _ours(axis: Any, rows: Rows, label: str) -> None:
    x = [r["similarity"] for r in rows]
    y = [100 * r["top1"] for r in rows]
    low = [100 * (r["top1"] - r["top1_low"]) for r in rows]
    high = [100 * (r["top1_high"] - r["top1"]) for r in rows]
    axis.errorbar(
        x, y, [low, high], color=COLOURS[0], marker="o", ms=4.5, lw=1.4, capsize=2, label=label
    )
    for r in rows:
        axis.text(
            r["similarity"], -5, f"{r['n']:,}", rotation=90, ha="center", va="top", fontsize=5,
            color=GREY,
        )  # fmt: skip


def _rho_text(row: dict[str, Any], split: str) -> str:
    digits = 2 if row["series"] == split else 3  # published ones as they were published
    who = "" if row["series"] == split else ", published"
    if row["rho"] is None:
        return f"{RHO} over {row['over']}{who}: undefined"
    text = f"{RHO} over {row['n']:,} {row['over']}{who}: {row['rho']:.{digits}f}"
    if row["rho_low"] is not None:
        text += f" [{row['rho_low']:.2f}, {row['rho_high']:.2f}]"
    return text


@step(version=4)
def figure(
    block: Binned, files: Files, study: Study, table: Path, rho: Path, out: list[Path]
) -> None:
    bins, rhos = numbers(block, files)
    write_csv(table, bins)
    write_csv(rho, rhos)
    draw(block, bins, rhos, out)
