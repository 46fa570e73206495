"""De-duplication within clusters: the engine against the plain float64 product, in one run.

    python benchmarks/dedup.py [--clusters 4] [--size 8000] [--dim 512]

8,000 is the mean size of a cluster of LAION-400M in 50,000 clusters. Results are asserted to be
equal. Writes benchmarks/results/dedup.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from data import Source

from clipshift.core.files import write_json
from clipshift.similarity.engine.self_join import Earlier


def run(engine: Earlier, clusters: list[np.ndarray], floor: float) -> tuple[Any, float]:
    found = []
    start = time.perf_counter()
    for vectors in clusters:
        pairs: list[tuple[np.ndarray, ...]] = []
        value, index = engine.find(vectors, lambda *p, to=pairs: to.append(p), floor)
        found.append((value, index, sum(len(p[0]) for p in pairs)))
    return found, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--dim", type=int, default=512)
    args = parser.parse_args()
    source = Source(args.dim)
    clusters = [source.rows(seed, args.size) for seed in range(args.clusters)]
    sample = clusters[0][:4096]
    run(Earlier(sample), [clusters[0][:2000]], 0.85)  # compiled, warm
    start = time.perf_counter()
    engine = Earlier(sample)
    prepared = time.perf_counter() - start
    ours, seconds = run(engine, clusters, 0.85)
    plain, plain_seconds = run(Earlier(sample, screen="none"), clusters, 0.85)
    for (a, b, c), (d, e, f) in zip(ours, plain, strict=True):
        assert (a == d).all() and (b == e).all() and c == f
    pairs = args.clusters * args.size * (args.size - 1) / 2
    record = {
        "clusters": args.clusters,
        "size": args.size,
        "dim": args.dim,
        "pairs_above_floor": sum(c for _, _, c in ours),
        "prepare_seconds_once": prepared,
        "seconds": seconds,
        "plain_seconds": plain_seconds,
        "pairs_per_second": pairs / seconds,
        "ratio_to_plain_float64": plain_seconds / seconds,
    }
    write_json(Path(__file__).parent / "results/dedup.json", record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
