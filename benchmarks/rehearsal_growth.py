"""What the rehearsal measured, as a figure and as a table, and what it extrapolates to.

    python benchmarks/rehearsal_growth.py [--points 400000000] [--nodes 1 16]

Reads benchmarks/results/rehearsal.json; writes docs/images/rehearsal_growth.svg and prints the
table of docs/rehearsal.md. A stage is extrapolated by what it grew by over the last three sizes, so
that starts of programs and work of a fixed size do not count; those of the clusters by the pairs
that they compare, measured with all clusters.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from clipshift.core.files import read_json
from clipshift.figures.style import house_style
from clipshift.study.config.splits import Dedup

HERE = Path(__file__).parent
# As many clusters as LAION has for its points, and points of their fit.
PER_CLUSTER, FITTED = 8000, 256
ITERATIONS = Dedup.model_fields["iterations"].default
# Stages of one job, or of one a split: they do not spread over more nodes than that.
WHOLE = {"dedup fit", "dedup check", "dedup record"}
LARGEST = 6  # stages that the figure names


def by_pairs(stage: str, runs: list[dict[str, Any]], points: float) -> float | None:
    """Seconds of one core for points x clusters pairs; None: the stage grows with the points."""
    many, clusters = runs[-1]["many_clusters"], points / PER_CLUSTER
    pairs = {
        "dedup fit": ("fit", ITERATIONS * FITTED * clusters / many["fitted"]),
        "dedup assign": ("assign", points / many["rows"]),
    }
    if stage not in pairs:
        return None
    measured, factor = pairs[stage]
    return float(many[measured]["cpu_seconds"] * factor * clusters / many["clusters"])


def extrapolated(stage: str, runs: list[dict[str, Any]], points: float) -> float:
    """Seconds of one core at `points`, at least 0."""
    if (seconds := by_pairs(stage, runs, points)) is not None:
        return seconds
    low, high = runs[max(0, len(runs) - 3)], runs[-1]
    grown = high["stages"][stage]["cpu_seconds"] - low["stages"][stage]["cpu_seconds"]
    return max(0.0, grown) * points / (high["points"] - low["points"])


def hours(stage: str, runs: list[dict[str, Any]], points: float, nodes: int, cores: int) -> float:
    """Hours by the clock on `nodes` nodes of `cores` cores each."""
    seconds = extrapolated(stage, runs, points)
    jobs = runs[-1]["stages"][stage]["jobs"]
    if stage in WHOLE:
        parts = 1.0
    elif stage == "splits":
        parts = jobs / math.ceil(jobs / nodes)
    else:
        parts = float(nodes)
    return seconds / 3600 / cores / parts


def table(record: dict[str, Any], points: float, nodes: list[int]) -> str:
    runs, cores = record["runs"], record["cores"]
    first, last = runs[0], runs[-1]
    head = ["stage", f"s at {first['points']:,}", f"s at {last['points']:,}", "s a further million",
            f"MiB at {first['points']:,}", f"MiB at {last['points']:,}",
            f"core hours at {points:,.0f}", *(f"hours on {n}" for n in nodes)]  # fmt: skip
    rows, sums = [], [0.0] * (3 + len(nodes))
    for stage in sorted(last["stages"], key=lambda s: -last["stages"][s]["cpu_seconds"]):
        a, b = first["stages"][stage], last["stages"][stage]
        million = extrapolated(stage, runs, 1e6)
        far = extrapolated(stage, runs, points) / 3600
        spread = [hours(stage, runs, points, n, cores) for n in nodes]
        for i, value in enumerate([a["cpu_seconds"], b["cpu_seconds"], far, *spread]):
            sums[i] += value
        rows.append([stage, f"{a['cpu_seconds']:.0f}", f"{b['cpu_seconds']:.0f}",
                     "with the clusters" if by_pairs(stage, runs, 1) else f"{million:.1f}",
                     f"{a['mib']:,.0f}", f"{b['mib']:,.0f}", f"{far:,.1f}",
                     *(f"{h:,.1f}" for h in spread)])  # fmt: skip
    rows.append(["all", f"{sums[0]:.0f}", f"{sums[1]:.0f}", "", "", "", f"{sums[2]:,.0f}",
                 *(f"{h:,.0f}" for h in sums[3:])])  # fmt: skip
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(record: dict[str, Any]) -> None:
    runs = record["runs"]
    x = [run["points"] for run in runs]
    stages = runs[-1]["stages"]
    named = sorted(stages, key=lambda s: -stages[s]["cpu_seconds"])[:LARGEST]
    with house_style():
        figure, (time, memory) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
        total = [sum(s["cpu_seconds"] for s in run["stages"].values()) for run in runs]
        time.loglog(x, total, "k-", linewidth=2, label="all stages")
        for stage, marker in zip(named, "osv^D*", strict=True):
            time.loglog(
                x, [r["stages"][stage]["cpu_seconds"] for r in runs], f"{marker}-", label=stage
            )
            memory.semilogx(x, [r["stages"][stage]["mib"] / 1024 for r in runs], f"{marker}-")
        line = [total[-1] * n / x[-1] for n in x]
        time.loglog(x, line, ":", color="grey", label="linear")
        largest = [max(s["mib"] for s in run["stages"].values()) / 1024 for run in runs]
        memory.semilogx(x, largest, "k-", linewidth=2)
        memory.set_ylim(0)
        time.set_ylabel("seconds of one core")
        memory.set_ylabel("largest memory of a job, GiB")
        for ax in (time, memory):
            ax.set_xlabel("points of the pool")
            ax.set_xticks(x, [f"{n / 1e6:g}M" for n in x])
            ax.xaxis.set_minor_locator(NullLocator())
        time.legend(fontsize=7)
        figure.savefig(HERE.parent / "docs/images/rehearsal_growth.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=float, default=4e8)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 16])
    args = parser.parse_args()
    record = read_json(HERE / "results/rehearsal.json")
    if len(record["runs"]) < 2:
        sys.exit("results/rehearsal.json has one size: growth needs at least two")
    draw(record)
    print(table(record, args.points, args.nodes))


if __name__ == "__main__":
    main()
