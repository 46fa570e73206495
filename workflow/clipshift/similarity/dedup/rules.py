"""Which points are dropped: a rule and a threshold over stored scores and pairs.

The table of a group holds `key, dropped, similarity, duplicate_of`. With the same threshold,
kept(connected-components) <= kept(earlier-neighbour) <= kept(greedy).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clipshift.core.files import read_parquet, write_parquet
from clipshift.core.step import step
from clipshift.study.config.splits import Rule

# Per row: dropped, the similarity that says so, and the row it duplicates (-1: none).
Decision = tuple[np.ndarray, np.ndarray, np.ndarray]


def decide(scores: pa.Table, pairs: pa.Table, rule: Rule, threshold: float) -> pa.Table:
    """`key, dropped, similarity, duplicate_of` in the order of `scores`.

    `similarity` and `duplicate_of` are null for a kept point. `duplicate_of` is the most similar
    earlier point (earlier-neighbour), the most similar kept one (greedy), or the first of the
    component, with the point's largest similarity to any member (connected-components).
    """
    keys = scores["key"].combine_chunks()
    n = len(keys)
    if rule == "earlier-neighbour":
        similarity = scores["similarity"].to_numpy(zero_copy_only=False)
        dropped = np.nan_to_num(similarity.astype(np.float64), nan=-np.inf) > threshold
        duplicate_of = pc.if_else(pa.array(dropped), scores["nearest_key"].combine_chunks(), None)
        return _table(keys, dropped, similarity, duplicate_of)
    close = pairs.filter(pc.greater(pairs["similarity"], threshold))
    later, earlier = (
        pc.index_in(close[name], value_set=keys).to_numpy() for name in ("key", "earlier_key")
    )
    edges = (later, earlier, close["similarity"].to_numpy())
    if rule == "greedy":
        copy = close["copy"].to_numpy(zero_copy_only=False)
        dropped, similarity, index = _greedy(n, *edges, copy)
    else:
        dropped, similarity, index = _components(n, *edges)
    duplicate_of = keys.take(pa.array(np.maximum(index, 0), mask=~dropped))
    return _table(keys, dropped, similarity, duplicate_of)


def _table(
    keys: pa.Array, dropped: np.ndarray, similarity: np.ndarray, duplicate_of: pa.Array
) -> pa.Table:
    value = pa.array(similarity.astype(np.float64), mask=~dropped)
    names = ["key", "dropped", "similarity", "duplicate_of"]
    return pa.table([keys, pa.array(dropped), value, duplicate_of], names=names)


def _greedy(
    n: int, later: np.ndarray, earlier: np.ndarray, similarity: np.ndarray, copy: np.ndarray
) -> Decision:
    """A point is dropped iff an earlier kept point is more similar than the threshold.

    Pairs come in the order of the later point, so every earlier point is decided already. Equal
    similarities go to the earlier point. A point that equals an earlier one is listed with that one
    only, and is dropped whatever became of it: either it was kept, or what dropped it is as
    similar to its copy.
    """
    dropped = np.zeros(n, dtype=bool)
    best = np.full(n, -np.inf)
    index = np.full(n, -1, dtype=np.int64)
    columns = (x.tolist() for x in (later, earlier, similarity, copy))
    for row, other, s, same in zip(*columns, strict=True):
        if dropped[other]:
            if same:
                dropped[row], best[row], index[row] = True, best[other], index[other]
        elif s > best[row]:
            dropped[row], best[row], index[row] = True, s, other
    return dropped, best, index


def _components(n: int, later: np.ndarray, earlier: np.ndarray, similarity: np.ndarray) -> Decision:
    """All but the first point of each connected component are dropped."""
    graph = coo_array((np.ones(len(later), dtype=bool), (later, earlier)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    # Rows are in the order of keys, so the first row of a component is its first point.
    _, first, component = np.unique(label, return_index=True, return_inverse=True)
    index = first[component]
    best = np.full(n, -np.inf)
    np.maximum.at(best, later, similarity)
    np.maximum.at(best, earlier, similarity)
    return index != np.arange(n), best, index


@step(version=1)
def apply(scores: Path, pairs: Path, rule: Rule, threshold: float, out: Path) -> None:
    """`decide` a group."""
    write_parquet(out, decide(read_parquet(scores), read_parquet(pairs), rule, threshold))
