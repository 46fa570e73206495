"""De-duplication: scores against brute force, rules against their definitions, the record."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_npy, write_parquet
from clipshift.similarity.dedup.check import check
from clipshift.similarity.dedup.clusters import assign, fit
from clipshift.similarity.dedup.record import record
from clipshift.similarity.dedup.rules import decide
from clipshift.similarity.dedup.sample import draw
from clipshift.similarity.dedup.scores import gather, score
from clipshift.similarity.embeddings import Embeddings, write_shard
from clipshift.study.config.splits import Dedup
from tests.conftest import unit

RULES: list[Any] = ["earlier-neighbour", "greedy", "connected-components"]
THRESHOLD = 0.9


def write_pool(folder: Path, pool: Embeddings, shards: int, order: int) -> list[str]:
    """The pool as an embedding folder, cut and shuffled."""
    rows = np.random.default_rng(order).permutation(len(pool.keys))
    names = [f"{i:05d}" for i in range(shards)]
    for name, part in zip(names, np.array_split(rows, shards), strict=True):
        metadata = pa.table({"image_path": pa.array([pool.keys[i] for i in part], pa.string())})
        write_shard(folder, name, pool.vectors[part], metadata)
    return names


def clustered(
    folder: Path, pool: Embeddings, clusters: int, jobs: int, shards: int = 2, order: int = 0
) -> list[tuple[pa.Table, pa.Table]]:
    """Scores and pairs of each group, through the files of the steps."""
    names = write_pool(folder, pool, shards, order)
    files: list[Path] = []
    if clusters > 1:
        centroids = fit(draw(folder, names, 1000, "x").vectors, clusters, 5, 0)
        for name in names:
            files.append(folder / f"{name}.npy")
            vectors = np.load(folder / f"img_emb/img_emb_{name}.npy")
            write_npy(files[-1], assign(vectors, centroids))
    result = []
    for group in range(jobs):
        with gather(folder, names, files, group, jobs) as rows:
            result.append(score(rows, 0.5, screen="int8"))
    return result


def pool_of(seed: int, n: int = 40, distinct: int = 15) -> Embeddings:
    """Points of few dimensions, close together in chains, some of them equal."""
    rng = np.random.default_rng(seed)
    handful = unit(rng.normal(size=(distinct, 3)))
    keys = [f"k{i:03d}" for i in rng.permutation(n)]
    return Embeddings(handful[rng.integers(0, distinct, n)], keys)


def truth(pool: Embeddings, rule: str, threshold: float) -> set[str]:
    """Keys that a rule drops, by its definition."""
    keys = sorted(pool.keys)
    vectors = np.array([pool.vectors[pool.keys.index(k)] for k in keys], dtype=np.float64)
    close = vectors @ vectors.T > threshold
    if rule == "earlier-neighbour":
        return {keys[i] for i in range(len(keys)) if close[i, :i].any()}
    if rule == "greedy":
        kept: list[int] = []
        for i in range(len(keys)):
            if not close[i, kept].any():
                kept.append(i)
        return set(keys) - {keys[i] for i in kept}
    reach = close | np.eye(len(keys), dtype=bool)
    for _ in keys:
        reach = reach @ reach
    return {keys[i] for i in range(len(keys)) if reach[i, :i].any()}


def dropped(table: pa.Table) -> set[str]:
    return set(table.filter(table["dropped"])["key"].to_pylist())


@pytest.mark.parametrize("rule", RULES)
@given(st.integers(0, 50), st.sampled_from([1, 2, 5]), st.sampled_from([0.6, 0.9, 0.98]))
@settings(max_examples=12, deadline=None)
def test_rules_on_all_pairs_equal_their_definitions(
    tmp_path_factory: pytest.TempPathFactory, rule: Any, seed: int, shards: int, threshold: float
) -> None:
    pool = pool_of(seed)
    ((scores, pairs),) = clustered(tmp_path_factory.mktemp("p"), pool, 1, 1, shards, seed)
    table = decide(scores, pairs, rule, threshold)
    assert dropped(table) == truth(pool, rule, threshold)
    assert table["key"].to_pylist() == sorted(pool.keys)
    vectors = dict(zip(pool.keys, pool.vectors.astype(np.float64), strict=True))
    for row in table.to_pylist():
        assert row["dropped"] == (row["duplicate_of"] is not None)
        if row["dropped"]:
            assert row["duplicate_of"] < row["key"]
            assert row["similarity"] > threshold
        if row["dropped"] and rule == "earlier-neighbour":
            s = vectors[row["key"]] @ vectors[row["duplicate_of"]]
            assert row["similarity"] == s
        if row["dropped"] and rule != "earlier-neighbour":
            assert row["duplicate_of"] not in dropped(table)


def test_stricter_rules_keep_less(tmp_path: Path) -> None:
    """kept(connected-components) <= kept(earlier-neighbour) <= kept(greedy), all different."""
    pool = pool_of(4, n=200, distinct=90)
    ((scores, pairs),) = clustered(tmp_path, pool, 1, 1)
    gone = {rule: dropped(decide(scores, pairs, rule, 0.98)) for rule in RULES}
    assert gone["greedy"] < gone["earlier-neighbour"] < gone["connected-components"]


def test_chain_falls_by_rule(tmp_path: Path) -> None:
    """a-b-c close in turn only: b hides c from a, and the rules part."""
    angles = np.radians([0, 10, 20, 90])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], 1))
    ((scores, pairs),) = clustered(tmp_path, Embeddings(rows, ["a", "b", "c", "d"]), 1, 1)
    assert scores["nearest_key"].to_pylist() == [None, "a", "b", "c"]
    found = {rule: decide(scores, pairs, rule, 0.96) for rule in RULES}
    assert found["earlier-neighbour"]["duplicate_of"].to_pylist() == [None, "a", "b", None]
    assert found["greedy"]["duplicate_of"].to_pylist() == [None, "a", None, None]
    assert found["connected-components"]["duplicate_of"].to_pylist() == [None, "a", "a", None]


def test_many_copies_make_few_pairs(tmp_path: Path) -> None:
    one = unit(np.array([[1.0, 2.0, 3.0]]))
    pool = Embeddings(np.repeat(one, 500, 0), [f"k{i:03d}" for i in range(500)])
    ((scores, pairs),) = clustered(tmp_path, pool, 1, 1)
    assert len(pairs) == 499 and pairs["copy"].to_pylist() == [True] * 499
    for rule in RULES:
        assert len(dropped(decide(scores, pairs, rule, 0.99))) == 499


def test_copy_of_a_dropped_point_is_dropped(tmp_path: Path) -> None:
    """b is dropped by a; c equals b: greedy drops c by a, though only the pair c-b is listed."""
    rows = unit(np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.1]]))
    ((scores, pairs),) = clustered(tmp_path, Embeddings(rows, ["a", "b", "c"]), 1, 1)
    assert pairs["key"].to_pylist() == ["b", "c"]
    assert decide(scores, pairs, "greedy", 0.9)["duplicate_of"].to_pylist() == [None, "a", "a"]


@pytest.mark.parametrize("rule", RULES)
def test_clusters_jobs_and_files_change_no_decision(tmp_path: Path, rule: Any) -> None:
    pool = pool_of(1, n=120, distinct=60)
    found = []
    for place, (jobs, shards, order) in enumerate([(1, 1, 0), (3, 4, 1), (6, 2, 2)]):
        groups = clustered(tmp_path / str(place), pool, 6, jobs, shards, order)
        tables = [decide(*group, rule, THRESHOLD) for group in groups]
        rows = pa.concat_tables(tables).sort_by("key").to_pylist()
        assert [r["key"] for r in rows] == sorted(pool.keys)
        found.append(rows)
    assert found[0] == found[1] == found[2]
    assert any(r["dropped"] for r in found[0])


def test_pairs_never_cross_clusters_but_all_within_are_found(tmp_path: Path) -> None:
    pool = pool_of(2, n=150, distinct=70)
    groups = clustered(tmp_path, pool, 5, 2)
    vectors = dict(zip(pool.keys, pool.vectors.astype(np.float64), strict=True))
    for scores, _ in groups:
        of = dict(zip(scores["key"].to_pylist(), scores["cluster"].to_pylist(), strict=True))
        for row in scores.to_pylist():
            mates = [k for k in of if of[k] == row["cluster"] and k < row["key"]]
            best = max((vectors[k] @ vectors[row["key"]] for k in mates), default=None)
            assert row["similarity"] == best


def test_sample_depends_on_keys_only(tmp_path: Path) -> None:
    pool = pool_of(5, n=60)
    drawn = []
    for place, (shards, order) in enumerate([(1, 0), (4, 1)]):
        names = write_pool(tmp_path / str(place), pool, shards, order)
        drawn.append(draw(tmp_path / str(place), names, 20, "seed"))
    assert drawn[0].keys == drawn[1].keys and len(set(drawn[0].keys)) == 20
    np.testing.assert_array_equal(drawn[0].vectors, drawn[1].vectors)
    for key, vector in zip(drawn[0].keys, drawn[0].vectors, strict=True):
        np.testing.assert_array_equal(vector, pool.vectors[pool.keys.index(key)])
    other = draw(tmp_path / "0", ["00000"], 20, "another")
    assert set(other.keys) != set(drawn[0].keys)
    assert len(draw(tmp_path / "0", ["00000"], 1000, "seed").keys) == 60


def test_clusters_are_the_same_twice_and_need_points() -> None:
    rows = unit(np.random.default_rng(0).normal(size=(300, 8)))
    first, again = fit(rows, 7, 10, 3), fit(rows, 7, 10, 3)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (7, 8) and first.dtype == np.float16
    s = rows.astype(np.float64) @ first.astype(np.float64).T
    np.testing.assert_array_equal(assign(rows, first), s.argmax(1))
    with pytest.raises(ClipshiftError, match="7 clusters cannot be fitted on 3 points"):
        fit(rows[:3], 7, 10, 3)


def test_clusters_depend_on_no_thread_and_are_as_good_as_those_of_faiss() -> None:
    rng = np.random.default_rng(1)
    middles = rng.normal(size=(40, 16))
    rows = unit(middles[rng.integers(0, 40, 4000)] + 0.5 * rng.normal(size=(4000, 16)))
    threads = torch.get_num_threads()
    try:
        made = []
        for number in (1, 3):
            torch.set_num_threads(number)
            made.append(fit(rows, 25, 10, 0))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*made)
    theirs = faiss.Kmeans(16, 25, niter=10, seed=0, spherical=True, max_points_per_centroid=4000)
    theirs.train(rows.astype(np.float32))
    ours, peer = (
        (rows.astype(np.float64) @ c.astype(np.float64).T).max(1).mean()
        for c in (made[0], theirs.centroids)
    )
    assert ours > peer - 0.02


def test_an_empty_cluster_takes_points_of_another() -> None:
    rows = np.repeat(unit(np.random.default_rng(2).normal(size=(3, 4))), 50, axis=0)
    centroids = fit(rows, 5, 4, 0)
    assert centroids.shape == (5, 4) and np.isfinite(centroids).all()
    best = (rows.astype(np.float64) @ centroids.astype(np.float64).T).max(1)
    assert best.min() > 0.999


@pytest.mark.parametrize("block_bytes", [1, 500, 1 << 20])
def test_check_is_exact_over_the_whole_pool(tmp_path: Path, block_bytes: int) -> None:
    pool = pool_of(3, n=50)
    names = write_pool(tmp_path, pool, 3, 0)
    sample = draw(tmp_path, names, 30, "s")
    table = check(sample, tmp_path, names, block_bytes=block_bytes)
    assert table["key"].to_pylist() == sorted(sample.keys)
    vectors = dict(zip(pool.keys, pool.vectors.astype(np.float64), strict=True))
    for row in table.to_pylist():
        mates = sorted(k for k in pool.keys if k < row["key"])
        s = [vectors[k] @ vectors[row["key"]] for k in mates]
        assert row["similarity"] == (max(s) if s else None)
        assert row["nearest_key"] == (mates[int(np.argmax(s))] if s else None)


def test_record_counts_what_clusters_missed(tmp_path: Path) -> None:
    pool = pool_of(6, n=200, distinct=90)
    block = Dedup(
        rule="greedy", threshold=0.85, clusters=8, jobs=3, sample=200, pairs_above=0.8,
        check=150, sweep=[0.6, 0.9],
    )  # fmt: skip
    files: dict[str, list[Path]] = {"scores": [], "pairs": []}
    groups = clustered(tmp_path, pool, 8, 3)
    for i, group in enumerate(groups):
        for name, table in zip(files, group, strict=True):
            files[name].append(tmp_path / f"{name}{i}.parquet")
            write_parquet(files[name][-1], table)
    names = ["00000", "00001"]
    exact = check(draw(tmp_path, names, 150, "c"), tmp_path, names)
    found, rows = record("p", block, files["scores"], files["pairs"], exact)
    gone = set().union(*(dropped(decide(*group, "greedy", 0.85)) for group in groups))
    assert found["rejected"] == {"duplicate": len(gone)}
    assert (found["in"], found["out"]) == (200, 200 - len(gone))
    sizes = [n for s, _ in groups for n in s["cluster"].value_counts().field("counts").to_pylist()]
    assert found["clusters"]["largest"] == max(sizes) and found["clusters"]["number"] == 8
    should = truth(pool, "earlier-neighbour", 0.85) & set(exact["key"].to_pylist())
    assert found["recall"]["n"] == len(should)
    assert found["recall"]["value"] == pytest.approx(len(should & gone) / len(should))
    assert found["recall"]["low"] < found["recall"]["value"] < found["recall"]["high"]
    assert found["precision"]["value"] == 1.0 > found["precision"]["low"]
    # Pairs below 0.8 are not stored: only the scores speak of 0.6.
    assert {(r["rule"], r["threshold"]) for r in rows} == {
        ("earlier-neighbour", 0.6), *((rule, t) for rule in RULES for t in (0.85, 0.9))
    }  # fmt: skip


def test_all_pairs_have_full_recall(tmp_path: Path) -> None:
    pool = pool_of(7, n=80)
    ((scores, pairs),) = clustered(tmp_path, pool, 1, 1)
    write_parquet(tmp_path / "s.parquet", scores)
    write_parquet(tmp_path / "p.parquet", pairs)
    names = ["00000", "00001"]
    exact = check(draw(tmp_path, names, 80, "c"), tmp_path, names)
    block = Dedup(threshold=0.9)
    found, _ = record("p", block, [tmp_path / "s.parquet"], [tmp_path / "p.parquet"], exact)
    assert found["recall"]["value"] == found["precision"]["value"] == 1.0


def test_empty_group_is_written(tmp_path: Path) -> None:
    """Clusters without points: empty tables of the same columns."""
    names = write_pool(tmp_path, pool_of(8, n=6), 1, 0)
    write_npy(tmp_path / "c.npy", np.zeros(6, np.int32))
    with gather(tmp_path, names, [tmp_path / "c.npy"], 1, 2) as rows:
        scores, pairs = score(rows, 0.5)
    assert (len(scores), len(pairs)) == (0, 0)
    for rule in RULES:
        assert decide(scores, pairs, rule, 0.9).column_names == [
            "key", "dropped", "similarity", "duplicate_of"
        ]  # fmt: skip


def test_clusters_of_another_shard_are_refused(tmp_path: Path) -> None:
    names = write_pool(tmp_path, pool_of(9, n=6), 1, 0)
    write_npy(tmp_path / "c.npy", np.zeros(5, np.int32))
    with pytest.raises(ClipshiftError, match=r"c\.npy has 5 rows, its shard 6"):  # noqa: SIM117
        with gather(tmp_path, names, [tmp_path / "c.npy"], 0, 1):
            pass


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"rule": "greedy"}, "needs `pairs_above`"),
        ({"rule": "greedy", "threshold": 0.8, "pairs_above": 0.9}, "below pairs_above"),
        ({"clusters": 2, "jobs": 3}, "lower `jobs`"),
        ({"clusters": 9, "sample": 3}, "smaller than clusters"),
    ],
)
def test_impossible_blocks_are_refused(block: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Dedup(**block)
