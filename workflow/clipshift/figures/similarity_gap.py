"""The similarity gap: how close are the test images to the pool, and to the reference set?

`python -m clipshift.figures.similarity_gap --reference NAME=FILE... --nearest NAME=FILE...
--out FILE`. Per test set the distribution of the nearest-neighbour similarity of its images, to the
pool (before de-duplication) and to the reference set.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.errors import run
from clipshift.figures.style import COLOURS, house_style, save
from clipshift.files import named_paths, read_parquet, write_csv


def nearest_in_pool(file: Path) -> pa.Table:
    """`test_key, similarity` of the nearest point, in the order of test keys."""
    near = read_parquet(file, ["test_key", "rank", "similarity"])
    return near.filter(pc.equal(near["rank"], 0)).sort_by("test_key")


def draw(gaps: dict[str, tuple[np.ndarray, np.ndarray]], out: Path) -> None:
    """One panel per test set.

    Args:
        gaps: per set, similarities (M,) to the reference set and to the pool.
    """
    values = np.concatenate([v for pair in gaps.values() for v in pair])
    low, high = np.floor(values.min() * 20) / 20, 1.0
    bins = np.linspace(low, high, max(2, round((high - low) / 0.025) + 1))
    with house_style():
        figure, axes = plt.subplots(
            1, len(gaps), figsize=(2.6 * len(gaps), 2.7), sharex=True, sharey=True, squeeze=False
        )
        looks = (("to the reference set", COLOURS[1], "-"), ("to the pool", COLOURS[0], "--"))
        for axis, (name, pair) in zip(axes[0], gaps.items(), strict=True):
            for value, (label, colour, line) in zip(pair, looks, strict=True):
                share = np.full(len(value), 100 / len(value))
                axis.hist(value, bins, weights=share, color=colour, alpha=0.25)
                axis.hist(
                    value, bins, weights=share, histtype="step", color=colour, ls=line, lw=1.4,
                    label=label,
                )  # fmt: skip
                axis.axvline(float(np.median(value)), color=colour, ls=line, lw=1)
            share_closer = float((pair[1] > pair[0]).mean())
            axis.set_title(
                f"{name} (n = {len(pair[0])})\n{share_closer:.0%} closer to the pool", fontsize=9
            )
        axes[0][0].set_ylabel("test images, %")
        figure.supxlabel("nearest-neighbour similarity (cosine; vertical line: median)", fontsize=9)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        save(figure, out)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", action="append", required=True, metavar="SET=FILE")
    parser.add_argument("--nearest", action="append", required=True, metavar="SET=FILE")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    nearest = named_paths(args.nearest)
    gaps = {}
    rows = []
    for name, (file,) in named_paths(args.reference).items():
        reference = read_parquet(file, ["test_key", "similarity"]).sort_by("test_key")
        pool = nearest_in_pool(nearest[name][0])
        assert reference["test_key"].equals(pool["test_key"]), name
        pair = (reference["similarity"].to_numpy(), pool["similarity"].to_numpy())
        gaps[name] = pair
        closer = pc.mean(pc.greater(pool["similarity"], reference["similarity"])).as_py()
        rows.append(
            {
                "test_set": name,
                "n": len(pair[0]),
                "median_to_reference": float(np.median(pair[0])),
                "median_to_pool": float(np.median(pair[1])),
                "share_closer_to_pool": closer,
            }
        )
    write_csv(args.csv, rows)
    draw(gaps, args.out)


if __name__ == "__main__":
    run(main)
