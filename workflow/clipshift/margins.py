"""Similarity of one shard to one test set, and the reference set's thresholds.

`python -m clipshift.margins reference ...` writes, per test image, its similarity to the reference
set. `python -m clipshift.margins shard ...` writes one row per point (the contract of the margins).
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.embeddings import Embeddings, in_key_order, read_all, read_shard
from clipshift.errors import ClipshiftError, run
from clipshift.files import read_parquet, write_parquet
from clipshift.similarity import scan


def reference_table(reference: Embeddings, tests: Embeddings, device: str = "auto") -> pa.Table:
    """s_i: `test_key, similarity (float64, exact), nearest_key`, one row per test image."""
    reference, tests = in_key_order(reference), in_key_order(tests)
    found = scan(reference.vectors, tests.vectors, device=device)
    nearest = [reference.keys[i] for i in found.test_nearest]
    return pa.table(
        {"test_key": tests.keys, "similarity": found.test_similarity, "nearest_key": nearest}
    )


def shard_table(
    points: Embeddings, tests: Embeddings, thresholds: pa.Table, device: str = "auto"
) -> pa.Table:
    """Margins, one row per point, in the order of keys.

    Raises:
        ClipshiftError: the thresholds are not those of this test set.
    """
    points, tests = in_key_order(points), in_key_order(tests)
    if thresholds["test_key"].to_pylist() != tests.keys:
        raise ClipshiftError("the thresholds were made for other test images; delete and run again")
    found = scan(points.vectors, tests.vectors, thresholds["similarity"].to_numpy(), device)
    return pa.table(
        {
            "key": points.keys,
            "max_similarity": found.max_similarity.astype(np.float32),
            "nearest_test_key": [tests.keys[i] for i in found.nearest_test],
            # Rounding to float32 keeps the sign, and zero: differences are multiples of 2^-48.
            "margin": found.margin.astype(np.float32),
            "margin_test_key": [tests.keys[i] for i in found.margin_test],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    reference = commands.add_parser("reference")
    reference.add_argument("--reference", type=Path, required=True, help="embedding folder")
    shard = commands.add_parser("shard")
    shard.add_argument("--pool", type=Path, required=True, help="embedding folder")
    shard.add_argument("--shard", required=True)
    shard.add_argument("--thresholds", type=Path, required=True)
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
    write_parquet(args.out, shard_table(pool, tests, thresholds, args.device))


if __name__ == "__main__":
    run(main)
