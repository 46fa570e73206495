"""Exact earlier neighbours over the whole pool of a seeded sample: what clusters may have missed.

The table holds `key, similarity float64, nearest_key`, the sample in the order of keys; null for
the pool's first point.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from clipshift.core.device import pick_device
from clipshift.core.files import write_parquet
from clipshift.core.step import step
from clipshift.similarity.blocks import BLOCK_BYTES, first_max
from clipshift.similarity.dedup.sample import draw
from clipshift.similarity.embeddings import Embeddings, in_key_order, open_shard


def check(
    sample: Embeddings, folder: Path, shards: Sequence[str], device: str = "auto",
    block_bytes: int = BLOCK_BYTES,
) -> pa.Table:  # fmt: skip
    """Compare the sample with all points of lower keys, one block of pool rows at a time."""
    sample = in_key_order(sample)
    keys = np.array(sample.keys)
    best = np.full(len(keys), -np.inf)
    nearest = np.full(len(keys), "", dtype=object)
    where = pick_device(device)
    queries = torch.from_numpy(sample.vectors.astype(np.float64)).to(where).T  # (D, S)
    most = max(1, block_bytes // (8 * sum(sample.vectors.shape)))
    for shard in tqdm(shards, desc="exact", mininterval=5, file=sys.stderr):
        pool = open_shard(folder, shard)
        names = np.array(pool.keys)
        order = np.argsort(names)
        for start in range(0, len(order), most):
            rows = order[start : start + most]
            # Sample point i may look at the block's rows [0, before[i]).
            before = torch.from_numpy(np.searchsorted(names[rows], keys)).to(where)
            block = torch.from_numpy(pool.vectors[rows].astype(np.float64)).to(where)
            s = block @ queries  # (B, S)
            late = torch.arange(len(rows), device=where)[:, None] >= before[None]
            value, row = (x.cpu().numpy() for x in first_max(s.masked_fill_(late, -torch.inf), 0))
            candidate = names[rows][row].astype(object)
            # Of equals the lower key, whatever shard it is in.
            better = (value > best) | ((value == best) & (value > -np.inf) & (candidate < nearest))
            best, nearest = np.where(better, value, best), np.where(better, candidate, nearest)
    none = best == -np.inf
    return pa.table(
        {
            "key": sample.keys,
            "similarity": pa.array(best, mask=none),
            "nearest_key": pa.array(nearest, pa.string(), mask=none),
        }
    )


@step(version=1)
def check_sample(pool: Path, shards: list[str], size: int, seed: int, out: Path) -> None:
    """`check` a sample of an embedding folder."""
    write_parquet(out, check(draw(pool, shards, size, f"check:{seed}"), pool, shards))
