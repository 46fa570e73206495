"""Scores of one group of clusters: each point's largest similarity to an earlier one.

`scores` holds, for the points of the clusters c with c % jobs = group in the order of cluster and
key, `key, cluster, similarity float64, nearest_key`. `pairs` holds, where a floor is given, every
pair above it as `key, earlier_key, similarity float64, copy`.
Points of equal vectors are listed against the first of them only, as its copies, or a thousand
copies would give half a million pairs.

Clusters are compared whole, whatever their size: rows lie in a mapped file, blocks in memory.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet
from clipshift.core.step import step
from clipshift.similarity.embeddings import open_shard
from clipshift.similarity.engine.plan import spread
from clipshift.similarity.engine.scan import SAMPLE, Screen
from clipshift.similarity.engine.self_join import Earlier

COPY_ROWS = 65_536
PAIRS = pa.schema(
    {"key": pa.string(), "earlier_key": pa.string(), "similarity": pa.float64(), "copy": pa.bool_()}
)
# Rows, earlier rows, similarities, and whether they are copies.
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Group:
    """Points of some clusters, in the order of cluster and key.

    Attributes:
        vectors: (N, D) float16, memory-mapped.
        keys: (N,) str.
        cluster: (N,) int32.
    """

    vectors: np.ndarray
    keys: np.ndarray
    cluster: np.ndarray

    def clusters(self) -> Iterator[slice]:
        """Rows of each cluster."""
        bounds = np.flatnonzero(np.diff(self.cluster, prepend=-1, append=-1))
        for start, stop in pairwise(bounds):
            yield slice(int(start), int(stop))


@contextmanager
def gather(
    folder: Path, shards: Sequence[str], assigned: Sequence[Path], group: int, jobs: int
) -> Iterator[Group]:
    """Collect the rows of a group from all shards into a temporary file.

    Args:
        assigned: per shard its clusters; empty: all points are of cluster 0.

    Raises:
        ClipshiftError: a shard and its clusters have different row counts.
    """
    keys: list[str] = []
    cluster: list[np.ndarray] = []
    shape, dtype = (0, 0), np.dtype(np.float16)
    with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
        mixed, ordered = Path(scratch) / "mixed", Path(scratch) / "ordered"
        with mixed.open("wb") as stream:
            for i, shard in enumerate(tqdm(shards, desc="gather", mininterval=5, file=sys.stderr)):
                part = open_shard(folder, shard)
                n = len(part.keys)
                labels = np.load(assigned[i]) if assigned else np.zeros(n, dtype=np.int32)
                if len(labels) != n:
                    raise ClipshiftError(
                        f"{assigned[i]} has {len(labels)} rows, its shard {n}; delete it"
                    )
                rows = np.flatnonzero(labels % jobs == group)
                for some in np.array_split(rows, len(rows) // COPY_ROWS + 1):
                    stream.write(np.ascontiguousarray(part.vectors[some]).tobytes())
                keys += [part.keys[row] for row in rows]
                cluster.append(labels[rows])
                shape, dtype = (len(keys), part.vectors.shape[1]), part.vectors.dtype
        labels = np.concatenate(cluster)
        if not keys:
            # An empty file cannot be mapped.
            yield Group(np.empty(shape, dtype), np.empty(0, dtype="U1"), labels)
            return
        names = np.array(keys)
        order = np.lexsort((names, labels))
        # Sorted from file to file, a part at a time: the vectors of a group may exceed the memory.
        source = np.memmap(mixed, dtype, "r", shape=shape)
        with ordered.open("wb") as stream:
            for start in range(0, len(order), COPY_ROWS):
                stream.write(source[order[start : start + COPY_ROWS]].tobytes())
        mixed.unlink()
        yield Group(np.memmap(ordered, dtype, "r", shape=shape), names[order], labels[order])


def score(
    group: Group, floor: float | None, device: str = "auto", screen: Screen = "auto"
) -> tuple[pa.Table, pa.Table]:
    """The tables of scores and of pairs."""
    engine = Earlier(np.array(spread(group.vectors, SAMPLE)), device, screen)
    n = len(group.keys)
    similarity, index = np.full(n, -np.inf), np.full(n, -1, dtype=np.int64)
    pairs: list[Pairs] = []
    work = sum((part.stop - part.start) ** 2 // 2 for part in group.clusters())
    progress = tqdm(total=work, desc="pairs", unit_scale=True, mininterval=5, file=sys.stderr)
    for part in group.clusters():
        vectors = group.vectors[part]
        value, earlier, new_pairs = _cluster(vectors, floor, engine)
        similarity[part] = value
        index[part] = np.where(earlier >= 0, earlier + part.start, -1)
        pairs += [(i + part.start, j + part.start, *rest) for i, j, *rest in new_pairs]
        progress.update(len(vectors) ** 2 // 2)
    none = index < 0
    scores = pa.table(
        {
            "key": pa.array(group.keys, pa.string()),
            "cluster": group.cluster,
            "similarity": pa.array(similarity, mask=none),
            "nearest_key": pa.array(group.keys[index] if n else group.keys, pa.string(), mask=none),
        }
    )
    return scores, _pair_table(group.keys, pairs)


def _cluster(
    vectors: np.ndarray, floor: float | None, engine: Earlier
) -> tuple[np.ndarray, np.ndarray, list[Pairs]]:
    """Each row's best earlier row in one cluster, and the cluster's pairs above the floor."""
    if floor is None:
        return (*engine.find(vectors), [])
    # A row's bytes as one value, so that np.unique compares whole vectors: (N,) void.
    whole = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors[:1].nbytes)))[:, 0]
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    original = first[inverse]  # per row the first row of the same vector
    listed = original == np.arange(len(vectors))
    copies = np.flatnonzero(~listed)
    norms = (vectors[copies].astype(np.float64) ** 2).sum(1)
    # A rounded vector is not quite of norm 1: its similarity to its copy is its squared norm.
    pairs = [(copies, original[copies], norms, np.ones(len(copies), dtype=bool))]
    value, index = engine.find(
        vectors,
        lambda i, j, s: pairs.append((i, j, s, np.zeros(len(i), dtype=bool))),
        floor,
        listed,
    )
    return value, index, pairs


def _pair_table(keys: np.ndarray, pairs: list[Pairs]) -> pa.Table:
    if not pairs:
        return PAIRS.empty_table()
    row, earlier, similarity, copy = (np.concatenate(part) for part in zip(*pairs, strict=True))
    order = np.lexsort((earlier, row))
    columns = [pa.array(keys[x[order]], pa.string()) for x in (row, earlier)]
    return pa.table([*columns, similarity[order], copy[order]], schema=PAIRS)


@step(version=1)
def score_group(
    pool: Path, shards: list[str], clusters: list[Path], group: int, jobs: int,
    floor: float | None, scores: Path, pairs: Path,
) -> None:  # fmt: skip
    """`score` the clusters of a group.

    Args:
        pool: an embedding folder.
        clusters: per shard its clusters; empty: all points are of one cluster.
    """
    with gather(pool, shards, clusters, group, jobs) as points:
        table, close = score(points, floor)
    write_parquet(pairs, close)
    write_parquet(scores, table)
