"""Accuracy against the number of pool points pruned, one line per way of pruning.

`python -m clipshift.figures.accuracy_vs_pruned --curve JSON --eval FOLDER --out FILE`. Points are
means over seeds with Clopper-Pearson intervals over the n test images; small dots are single seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from clipshift.config import Curve
from clipshift.errors import run
from clipshift.figures.style import COLOURS, GREY, MARKERS, house_style, save
from clipshift.files import read_json


def draw(curve: Curve, results: dict[str, dict[str, Any]], out: Path) -> None:
    """One panel per test set.

    Args:
        results: evaluation JSON of every split of the curve.
    """
    with house_style():
        figure, axes = plt.subplots(
            1, len(curve.sets), figsize=(2.7 * len(curve.sets), 3.0), sharey=True, squeeze=False
        )
        for axis, test_set in zip(axes[0], curve.sets, strict=True):
            base = results[curve.baseline]
            for i, (label, splits) in enumerate(curve.lines.items()):
                points = sorted(
                    (results[s] for s in [curve.baseline, *splits]),
                    key=lambda r: r["points_pruned"],
                )
                offset = (i - (len(curve.lines) - 1) / 2) * 0.008 * points[-1]["points_pruned"]
                _line(axis, points, test_set, offset=offset, label=label, i=i)
            top = base["sets"][test_set]["top1"]
            axis.plot(
                [base["points_pruned"]], [100 * top], "*", ms=12, color="black", zorder=5,
                label=f"{curve.baseline} (no pruning)",
            )  # fmt: skip
            chance = 100 * base["sets"][test_set]["chance"]
            axis.axhline(chance, color=GREY, lw=1, ls=":", label="chance")
            majority = 100 * base["sets"][test_set]["majority"]
            axis.axhline(majority, color=GREY, lw=1, ls="-.", label="largest class")
            axis.set_title(f"{test_set} (n = {base['sets'][test_set]['n']})", fontsize=9)
        tops = (r["sets"][s]["top1_high"] for r in results.values() for s in curve.sets)
        axes[0][0].set_ylim(0, 105 * max(tops))  # shared by all panels
        axes[0][0].set_ylabel("zero-shot top-1 accuracy, %")
        seeds = len(next(iter(results.values()))["runs"])
        figure.supxlabel(
            f"pool points pruned (bars: 95 % interval; mean of {seeds} seeds)", fontsize=9
        )
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        save(figure, out)
        plt.close(figure)


def _line(
    axis: Any, points: list[dict[str, Any]], test_set: str, *, offset: float, label: str, i: int
) -> None:
    x = [p["points_pruned"] + (offset if p["points_pruned"] else 0) for p in points]
    y = [100 * p["sets"][test_set]["top1"] for p in points]
    low = [v - 100 * p["sets"][test_set]["top1_low"] for v, p in zip(y, points, strict=True)]
    high = [100 * p["sets"][test_set]["top1_high"] - v for v, p in zip(y, points, strict=True)]
    look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
    axis.errorbar(x, y, [low, high], lw=1.4, ms=5, capsize=2.5, label=label, **look)
    for at, point in zip(x, points, strict=True):
        seeds = [100 * v for v in point["sets"][test_set]["top1_of_seeds"].values()]
        axis.plot([at] * len(seeds), seeds, ".", ms=3, color=look["color"], alpha=0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curve", required=True, help="JSON of the curve block")
    parser.add_argument("--eval", type=Path, required=True, help="folder of the evaluations")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    curve = Curve.model_validate_json(args.curve)
    names = dict.fromkeys([curve.baseline, *(s for line in curve.lines.values() for s in line)])
    results = {name: read_json(args.eval / f"{name}.json") for name in names}
    draw(curve, results, args.out)


if __name__ == "__main__":
    run(main)
