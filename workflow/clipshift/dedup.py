"""De-duplication scores of a pool: each point's largest similarity to an earlier one.

`python -m clipshift.dedup --pool FOLDER --shards NAME... --out FILE` writes `key, similarity
float32, nearest_key` for every point in the order of keys. The threshold applies when a split is
made, so another threshold recomputes nothing here.

The rule is `earlier-neighbour`: a point is dropped iff an earlier point, kept or not, is more
similar than the threshold (chains collapse onto their first point). "Earlier" is the order of
keys, never the order of files. Exact all pairs.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.embeddings import Embeddings, in_key_order, read_all
from clipshift.errors import run
from clipshift.files import write_parquet
from clipshift.similarity import earlier_neighbour


def score(pool: Embeddings, device: str = "auto") -> pa.Table:
    """`key, similarity, nearest_key`; the first point has a null neighbour and similarity."""
    pool = in_key_order(pool)
    similarity, index = earlier_neighbour(pool.vectors, device)
    return pa.table(
        {
            "key": pool.keys,
            "similarity": pa.array(similarity.astype(np.float32), mask=index < 0),
            "nearest_key": [pool.keys[i] if i >= 0 else None for i in index],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="embedding folder")
    parser.add_argument("--shards", nargs="+", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write_parquet(args.out, score(read_all(args.pool, args.shards), args.device))


if __name__ == "__main__":
    run(main)
