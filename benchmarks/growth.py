"""How the engine's time grows: with the pool, the test images and the dimension, beside faiss.

    python benchmarks/growth.py

Writes benchmarks/results/growth.json and docs/images/engine_growth.svg. Everything is in memory,
and both sides have run once before they are timed.
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from data import Source
from matplotlib.ticker import NullLocator
from peers import faiss_flat

from clipshift.core.files import read_json, write_json
from clipshift.figures.style import house_style
from clipshift.similarity.engine.plan import best_kind
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.scan import Scanner

HERE = Path(__file__).parent
BASE = {"pool": 100_000, "tests": 20_000, "dim": 512}
GRID = {
    "pool": [25_000, 50_000, 100_000, 200_000],
    "tests": [2_500, 5_000, 10_000, 20_000, 40_000],
    "dim": [128, 256, 512, 768, 1024],
}
LABELS = {"pool": "pool points", "tests": "test images", "dim": "dimension"}


def measure(pool: int, tests: int, dim: int) -> dict[str, float]:
    """Seconds of preparing and scanning, and of faiss' IndexFlatIP, for one test set."""
    source = Source(dim)
    rows, vectors = source.rows(0, pool), source.rows(100, tests)
    kind = best_kind(torch.device("cpu"))
    limits = np.random.default_rng(0).normal(0.8, 0.05, tests)
    sets = [ColumnSet(vectors, limits)]
    Scanner(sets, rows[:4096], pool, screen=kind).scan(rows[:1024]).__next__()  # compiled, warm
    start = time.perf_counter()
    scanner = Scanner(sets, rows[:: max(1, pool // 4096)], pool, screen=kind)
    ready = time.perf_counter()
    margins = np.concatenate([piece.maxima[0].margin for piece in scanner.scan(rows)])
    done = time.perf_counter()
    faiss_flat(rows[:1024], sets)
    warm = time.perf_counter()
    theirs = faiss_flat(rows, sets)[:, 0]
    seconds = time.perf_counter() - warm
    assert np.abs(theirs - margins).max() < 1e-5
    return {
        "prepare": ready - start,
        "scan": done - ready,
        "faiss_flat": seconds,
        "axes": scanner.axes[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    if not parser.parse_args().draw:
        record = {
            axis: [BASE | {axis: value} | measure(**(BASE | {axis: value})) for value in values]
            for axis, values in GRID.items()
        }
        write_json(HERE / "results/growth.json", record)
    draw(read_json(HERE / "results/growth.json"))


def draw(record: dict[str, list[dict[str, float]]]) -> None:
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained", sharey=True)
        for ax, (axis, rows) in zip(axes, ((name, record[name]) for name in GRID), strict=True):
            x = [row[axis] for row in rows]
            faiss = [r["faiss_flat"] for r in rows]
            ax.loglog(x, faiss, "s--", label="faiss IndexFlatIP, same output")
            ax.loglog(x, [r["scan"] for r in rows], "o-", label="clipshift, scan")
            total = [r["scan"] + r["prepare"] for r in rows]
            ax.loglog(x, total, "^:", label="with its preparation")
            ax.set_xlabel(LABELS[axis])
            ax.set_xticks(x, [f"{value:,}" for value in x], rotation=30)
            ax.xaxis.set_minor_locator(NullLocator())
        axes[0].set_ylabel("seconds, two cores")
        axes[0].legend()
        figure.suptitle("100,000 points x 20,000 test images x 512, unless varied", fontsize=9)
        figure.savefig(HERE.parent / "docs/images/engine_growth.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
