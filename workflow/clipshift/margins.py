"""Similarity of one pool shard to one test set, and the reference set's thresholds.

`python -m clipshift.margins reference ...` writes, per test image, its similarity to the reference
set. `python -m clipshift.margins shard ...` writes one row per pool point (the contract of the
margins) and, per test image, its nearest point in this shard.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.embeddings import Embeddings, in_key_order, read_all, read_shard
from clipshift.errors import ClipshiftError, run
from clipshift.files import read_parquet, write_parquet
from clipshift.similarity import scan


def nearest_table(
    test_keys: list[str], similarity: np.ndarray, nearest_keys: list[str]
) -> pa.Table:
    """`test_key, similarity (float64, exact), nearest_key`, one row per test image."""
    return pa.table({"test_key": test_keys, "similarity": similarity, "nearest_key": nearest_keys})


def reference_table(reference: Embeddings, tests: Embeddings, device: str = "auto") -> pa.Table:
    """s_i: per test image its largest similarity to the reference set, and to whom."""
    reference, tests = in_key_order(reference), in_key_order(tests)
    found = scan(reference.vectors, tests.vectors, device=device)
    nearest = [reference.keys[i] for i in found.test_nearest]
    return nearest_table(tests.keys, found.test_similarity, nearest)


def shard_tables(
    pool: Embeddings, tests: Embeddings, thresholds: pa.Table, device: str = "auto"
) -> tuple[pa.Table, pa.Table]:
    """Margins (one row per pool point, in key order) and nearest points (one row per test image).

    Raises:
        ClipshiftError: the thresholds are not those of this test set.
    """
    pool, tests = in_key_order(pool), in_key_order(tests)
    if thresholds["test_key"].to_pylist() != tests.keys:
        raise ClipshiftError("the thresholds were made for other test images; delete and run again")
    found = scan(pool.vectors, tests.vectors, thresholds["similarity"].to_numpy(), device)
    margins = pa.table(
        {
            "key": pool.keys,
            "max_similarity": found.max_similarity.astype(np.float32),
            "nearest_test_key": [tests.keys[i] for i in found.nearest_test],
            # Rounding to float32 keeps the sign, and zero: differences are multiples of 2^-48.
            "margin": found.margin.astype(np.float32),
            "margin_test_key": [tests.keys[i] for i in found.margin_test],
        }
    )
    nearest = [pool.keys[i] for i in found.test_nearest]
    return margins, nearest_table(tests.keys, found.test_similarity, nearest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reference = commands.add_parser("reference")
    reference.add_argument("--reference", type=Path, required=True, help="embedding folder")
    shard = commands.add_parser("shard")
    shard.add_argument("--pool", type=Path, required=True, help="embedding folder")
    shard.add_argument("--shard", required=True)
    shard.add_argument("--thresholds", type=Path, required=True)
    shard.add_argument("--nearest", type=Path, required=True)
    for command in (reference, shard):
        command.add_argument("--tests", type=Path, required=True, help="embedding folder")
        command.add_argument("--device", default="auto")
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tests = read_all(args.tests)
    if args.command == "reference":
        write_parquet(args.out, reference_table(read_all(args.reference), tests, args.device))
        return
    thresholds = read_parquet(args.thresholds, ["test_key", "similarity"])
    pool = read_shard(args.pool, args.shard)
    margins, nearest = shard_tables(pool, tests, thresholds, args.device)
    write_parquet(args.nearest, nearest)
    write_parquet(args.out, margins)


if __name__ == "__main__":
    run(main)
