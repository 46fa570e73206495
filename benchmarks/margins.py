"""Exact margins: ours against faiss IndexFlatIP with an appended coordinate, in one run.

    python benchmarks/margins.py [--pool 50000] [--tests 2000] [--dim 512] [--runs 3]

Per-test-image thresholds s_i turn into one by q' = [q, -s], x' = [x, 1] and a threshold of 0.
Prints the medians, the ratio and the decisions on which the two differ (faiss computes in float32;
ours does not round), and writes benchmarks/results/margins.json. Synthetic unit vectors; both use
all cores.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

from clipshift.files import write_json
from clipshift.similarity import scan


def unit_rows(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """(rows, dim) float16 unit vectors with a decaying spectrum, as embeddings have."""
    x = rng.standard_normal((rows, dim)) * (1 + np.arange(dim)) ** -0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


def timed(work: Callable[[], np.ndarray], runs: int) -> tuple[np.ndarray, float]:
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=50_000)
    parser.add_argument("--tests", type=int, default=2_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pool = unit_rows(rng, args.pool, args.dim)
    tests = unit_rows(rng, args.tests, args.dim)
    reference = unit_rows(rng, args.tests, args.dim)
    thresholds = scan(reference, tests).test_similarity

    queries = np.hstack([tests.astype(np.float32), -thresholds[:, None].astype(np.float32)])
    index = faiss.IndexFlatIP(args.dim + 1)
    index.add(queries)
    points = np.hstack([pool.astype(np.float32), np.ones((args.pool, 1), np.float32)])

    ours, our_seconds = timed(lambda: scan(pool, tests, thresholds, "cpu").margin, args.runs)
    theirs, faiss_seconds = timed(lambda: index.search(points, 1)[0][:, 0], args.runs)
    pairs = args.pool * args.tests
    record = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "pool": args.pool,
        "tests": args.tests,
        "dim": args.dim,
        "ours_seconds": our_seconds,
        "faiss_flat_seconds": faiss_seconds,
        "ours_pairs_per_second": pairs / our_seconds,
        "ratio_to_faiss_flat": faiss_seconds / our_seconds,
        "decisions_that_differ": int(((ours > 0) != (theirs > 0)).sum()),
        "largest_difference_of_margins": float(np.abs(ours - theirs).max()),
    }
    write_json(Path(__file__).parent / "results/margins.json", record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
