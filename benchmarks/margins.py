"""Exact margins: ours against its peers, on the same data and in one run.

    python benchmarks/margins.py [--pool 1000000] [--peer-rows 100000] [--dim 512] [--share 1]

Ours is timed twice: as a command, which reads the whole pool from disk, writes the tables and their
certificate; and as the peers are, with rows in memory, without a file. Peers get `--peer-rows` rows
(they are linear in rows; 0: all). Prints and writes benchmarks/results/margins.json. See
benchmarks/README.md for what the numbers mean.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import Source, write_folder, write_tests
from peers import PEERS
from threadpoolctl import threadpool_info

from clipshift.core.files import read_json, read_parquet, write_json
from clipshift.similarity.embeddings import open_rows, read_all
from clipshift.similarity.engine.plan import best_kind
from clipshift.similarity.engine.queries import ColumnSet
from clipshift.similarity.engine.scan import scan

HERE = Path(__file__).parent
# float32 sums of 512 products are right to this; nearer decisions are not compared.
ROUNDING = 1e-5


def sgemm_rate(n: int = 3072) -> dict[str, float]:
    """GFLOP/s of float32 products: torch's and numpy's."""
    a = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32)
    b = torch.from_numpy(a)
    rates = {}
    for name, work in (("torch", lambda: b @ b), ("numpy", lambda: a @ a)):
        work()
        start = time.perf_counter()
        work()
        rates[name] = 2 * n**3 / (time.perf_counter() - start) / 1e9
    return rates


def run_ours(folder: Path, tests: dict[str, Path]) -> dict[str, Any]:
    """`clipshift margins` as a user runs it; seconds of the scan come from its second call."""
    words = [f"--test={name}={path}" for name, path in tests.items()]
    command = [sys.executable, "-m", "clipshift.apps.cli", "margins", "--pool", folder / "pool",
               "--reference", folder / "reference", *words, "--out", folder / "out"]  # fmt: skip
    seconds = []
    for _ in range(2):  # thresholds are kept: the second call scans the pool only
        for certificate in (folder / "out/certificates").glob("*"):
            certificate.unlink()
        start = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    subprocess.run([sys.executable, "-m", "clipshift.apps.cli", "verify", str(folder / "out")],
                   check=True, capture_output=True)  # fmt: skip
    certificate = read_json(folder / "out/certificates/00000.json")
    return {
        "first_command_seconds": seconds[0],
        "seconds": seconds[1],
        "peak_bytes": peak,
        "pairs": certificate["pairs"],
        "screen": certificate["screen"],
        "above_threshold": {n: t["above_threshold"] for n, t in certificate["tests"].items()},
    }


def run_peers(folder: Path, tests: dict[str, Path], names: list[str], rows: int) -> dict[str, Any]:
    sets = columns_of(folder, tests)
    whole, _ = open_rows(folder / "pool", "00000")
    ours = margins_of(folder, tests)
    found = {}
    for name in names:
        pool = np.array(whole[: rows or len(whole)])
        start = time.perf_counter()
        theirs = PEERS[name](pool, sets)
        seconds = time.perf_counter() - start
        mine = ours[: len(pool)]
        differ = int((((theirs > 0) != (mine > 0)) & (np.abs(mine) > ROUNDING)).sum())
        assert differ == 0 or name == "top_candidates", (name, differ)
        rate = len(pool) * sum(len(s.vectors) for s in sets) / seconds
        found[name] = {"rows": len(pool), "seconds": seconds, "pairs_per_second": rate,
                       "decisions_that_differ": differ}  # fmt: skip
        print(f"{name}: {found[name]}", file=sys.stderr)
    return found


def run_in_memory(folder: Path, tests: dict[str, Path]) -> dict[str, Any]:
    """Ours as the peers are timed: rows in memory, the column side made ready within the time."""
    sets = columns_of(folder, tests)
    pool = np.array(open_rows(folder / "pool", "00000")[0])
    scan(pool[:2048], sets, screen=best_kind(torch.device("cpu")))  # compiled and warm
    start = time.perf_counter()
    found, counts = scan(pool, sets)
    seconds = time.perf_counter() - start
    margins = np.stack([m.margin for m in found], 1).astype(np.float32)
    assert (margins == margins_of(folder, tests)).all()
    return {"rows": len(pool), "seconds": seconds, "pairs_per_second": counts.pairs / seconds}


def columns_of(folder: Path, tests: dict[str, Path]) -> list[ColumnSet]:
    tables = {n: read_parquet(folder / f"out/thresholds/{n}.parquet") for n in tests}
    return [ColumnSet(read_all(path).vectors, tables[n]["similarity"].to_numpy())
            for n, path in tests.items()]  # fmt: skip


def margins_of(folder: Path, tests: dict[str, Path]) -> np.ndarray:
    """(N, S) float32: what the command wrote."""
    tables = [read_parquet(folder / f"out/{n}/00000.parquet", ["margin"]) for n in tests]
    return np.stack([t["margin"].to_numpy() for t in tables], 1)


def ratios(rate: float, peers: dict[str, Any]) -> dict[str, float]:
    return {name: rate / peer["pairs_per_second"] for name, peer in peers.items()}


def blas_kernels() -> list[str]:
    return sorted({f"{i['internal_api']}:{i.get('architecture')}" for i in threadpool_info()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=int, default=1_000_000)
    parser.add_argument("--peer-rows", type=int, default=100_000)
    parser.add_argument("--reference", type=int, default=150_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--share", type=float, default=1.0, help="of the 20,000 test images")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--out", type=Path, default=HERE / "results/margins.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipshift-") as name:
        folder, source = Path(name), Source(args.dim)
        write_folder(folder / "pool", source, 0, args.pool, "p")
        write_folder(folder / "reference", source, 50, args.reference, "r")
        tests = write_tests(folder / "tests", source, args.share)
        ours = run_ours(folder, tests)
        print(json.dumps(ours, indent=1), file=sys.stderr)
        in_memory = run_in_memory(folder, tests)
        peers = run_peers(folder, tests, args.peers, args.peer_rows)
    gemm = sgemm_rate()
    command = ours["pairs"]["all"] / ours["seconds"]
    record = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "blas": blas_kernels(),
            "sgemm_gflops": gemm,
        },
        "data": {
            "pool": args.pool,
            "dim": args.dim,
            "tests": ours["pairs"]["all"] // args.pool,
            "reference": args.reference,
        },
        "ours": ours | {"pairs_per_second": command},
        "ours_in_memory": in_memory,
        "peers": peers,
        "ratio_to": ratios(in_memory["pairs_per_second"], peers),
        "ratio_of_the_command_to": ratios(command, peers),
        "ratio_to_sgemm": in_memory["pairs_per_second"] * 2 * args.dim / 1e9 / max(gemm.values()),
    }
    if "faiss_flat" in peers:
        record["ratio_to_faiss_flat"] = record["ratio_to"]["faiss_flat"]
    write_json(args.out, record)
    print(json.dumps({k: v for k, v in record.items() if k.startswith("ratio")}, indent=2))


if __name__ == "__main__":
    main()
