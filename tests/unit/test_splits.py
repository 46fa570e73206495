"""Splits against the embeddings that their scores came from."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipshift.core.files import read_parquet, write_parquet
from tests.unit.study import Study, candidates, kept, make_split, make_study, removed

SETS = ["sketch", "photo"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", range(3))
def test_pruned_leaves_no_point_closer_than_the_reference(
    tmp_path: Path, name: str, seed: int
) -> None:
    """The similarity gap of what is kept is that of the reference set, for every test image."""
    study = make_study(tmp_path, seed)
    rows = make_split(study, tmp_path / "s.parquet", "pruned", sets=[name])
    limit = study.limit(name)
    nearest = study.similarity(name, sorted(kept(rows))).max(1, keepdims=True)
    assert (nearest <= limit).all()
    assert (np.maximum(nearest, limit) == limit).all()
    for key in removed(rows):
        assert (study.similarity(name, [key]) > limit).any()
    assert removed(rows), "the example must prune something"


def test_removed_of_several_sets_is_the_union(study: Study, tmp_path: Path) -> None:
    single = [
        make_split(study, tmp_path / f"{name}.parquet", "pruned", sets=[name]) for name in SETS
    ]
    both = make_split(study, tmp_path / "both.parquet", "pruned", sets=SETS)
    parts = [removed(rows) for rows in single]
    assert removed(both) == parts[0] | parts[1]
    assert parts[0] - parts[1] and parts[1] - parts[0], "the example must tell the sets apart"


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("full", {}),
        ("rand", {"keep": 7}),
        ("near", {"keep": 7, "sets": SETS}),
        ("far", {"keep": 7, "sets": SETS}),
        ("pruned", {"sets": SETS, "tolerance": -2.0}),
    ],
)
def test_every_point_has_one_row_and_reference_points_stay(
    study: Study, tmp_path: Path, recipe: str, keys: Any
) -> None:
    rows = make_split(study, tmp_path / "s.parquet", recipe, **keys)
    pool = [r for r in rows if r["reason"] != "reference"]
    assert [r["key"] for r in rows] == sorted(study.pool.keys + study.reference.keys)
    assert {r["key"] for r in rows if not r["kept"]} | kept(rows) == set(study.pool.keys)
    assert all((r["reason"] == "kept") == r["kept"] for r in pool)
    reference = {r["key"] for r in rows if r["reason"] == "reference" and r["kept"]}
    assert reference == set(study.reference.keys)
    size = {"full": len(candidates(rows)), "pruned": 0}.get(recipe, 7)
    assert len(kept(rows)) == size


@given(st.integers(0, 5), st.integers(2, 37))
@settings(max_examples=8)
def test_near_and_far_partition_the_candidates(
    tmp_path_factory: pytest.TempPathFactory, seed: int, k: int
) -> None:
    """Also where ties cross the cut; seven distinct vectors make that the rule."""
    folder = tmp_path_factory.mktemp("s")
    study = make_study(folder, seed, n=40, distinct=7, threshold=1.5, shards=2)
    near = make_split(study, folder / "n.parquet", "near", keep=k, sets=["sketch"])
    far = make_split(study, folder / "f.parquet", "far", keep=40 - k, sets=["sketch"])
    assert not kept(near) & kept(far)
    assert kept(near) | kept(far) == set(study.pool.keys)
    best = {key: study.similarity("sketch", [key]).max() for key in study.pool.keys}
    assert max(best[key] for key in kept(near)) <= min(best[key] for key in kept(far))


def test_a_split_within_another_chooses_among_its_points(study: Study, tmp_path: Path) -> None:
    outer = kept(make_split(study, tmp_path / "outer.parquet", "pruned", sets=["sketch"]))
    rows = make_split(
        study, tmp_path / "far.parquet", "far", sets=["photo"], keep=0.5, within="outer"
    )
    best = {key: study.similarity("photo", [key]).max() for key in outer}
    order = sorted(outer, key=lambda key: (-best[key], key))
    assert kept(rows) == set(order[: round(len(outer) / 2)])
    assert 0 < len(kept(rows)) < len(outer)
    reasons = {r["key"]: r["reason"] for r in rows}
    assert {reasons[key] for key in removed(rows) - outer} == {"not in outer"}
    assert {reasons[key] for key in outer - kept(rows)} == {"far-pruned"}


def test_near_and_far_order_by_the_exact_similarity(tmp_path: Path) -> None:
    """Keys would decide between values that are equal as float32."""
    study = make_study(tmp_path, n=40, distinct=40, threshold=1.5, shards=1)
    (file,) = study.scores.margins.margins["sketch"]
    table = read_parquet(file).sort_by("key")
    falling = 0.75 - np.arange(40) * 2.0**-40  # a multiple of the step of products
    column = table.schema.get_field_index("max_similarity")
    write_parquet(file, table.set_column(column, "max_similarity", pa.array(falling)))
    near = make_split(study, tmp_path / "n.parquet", "near", keep=10, sets=["sketch"])
    far = make_split(study, tmp_path / "f.parquet", "far", keep=10, sets=["sketch"])
    keys = table["key"].to_pylist()
    assert (kept(near), kept(far)) == (set(keys[-10:]), set(keys[:10]))


def test_copies_of_reference_images_are_kept(study: Study, tmp_path: Path) -> None:
    """As close as the reference set is not closer: a margin of exactly 0 stays."""
    rows = make_split(study, tmp_path / "s.parquet", "pruned", threshold=1.5, sets=SETS)
    reference = {v.tobytes() for v in study.reference.vectors}
    copies = {
        key
        for key, vector in zip(study.pool.keys, study.pool.vectors, strict=True)
        if vector.tobytes() in reference
    }
    assert copies and copies <= kept(rows)
    assert any(r["margin"] == 0 for r in rows if r["key"] in copies)


@pytest.mark.parametrize("recipe", ["near", "far", "rand"])
def test_sized_recipes_are_nested(study: Study, tmp_path: Path, recipe: str) -> None:
    keys: dict[str, Any] = {} if recipe == "rand" else {"sets": SETS}
    sizes = [2, 3, 5, 9, 20]
    chain = [
        kept(make_split(study, tmp_path / f"{k}.parquet", recipe, keep=k, **keys)) for k in sizes
    ]
    assert [len(part) for part in chain] == sizes
    assert all(small < large for small, large in pairwise(chain))


def test_rand_depends_on_its_seed_only(study: Study, tmp_path: Path) -> None:
    a, again, b = (
        kept(make_split(study, tmp_path / f"{i}.parquet", "rand", keep=15, seed=seed))
        for i, seed in enumerate((0, 0, 1))
    )
    assert a == again != b


def test_pruned_is_no_prefix_of_the_near_order(study: Study, tmp_path: Path) -> None:
    """A limit per test image is another rule than one limit for all of them."""
    pruned = make_split(study, tmp_path / "p.parquet", "pruned", sets=["sketch"])
    best = {key: study.similarity("sketch", [key]).max() for key in candidates(pruned)}
    assert min(best[key] for key in removed(pruned)) < max(best[key] for key in kept(pruned))


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("rand", {"keep": 0.5}),
        ("near", {"keep": 0.5, "sets": SETS}),
        ("far", {"keep": 11, "sets": ["photo"]}),
        ("pruned", {"sets": SETS}),
    ],
)
def test_result_does_not_depend_on_files(tmp_path: Path, recipe: str, keys: Any) -> None:
    """Shards, order of rows and order of shards: the same bytes but for the sizes per shard."""
    outputs = []
    for place, (shards, order_seed) in enumerate([(1, 0), (3, 1), (7, 2), (7, 2)]):
        study = make_study(tmp_path / str(place), shards=shards, order_seed=order_seed)
        out = tmp_path / f"{place}/s.parquet"
        make_split(study, out, recipe, **keys)
        names = ("parquet", "json", "keys.npy", "subset_u8u8.npy")
        outputs.append([out.with_suffix(f".{name}").read_bytes() for name in names])
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3]


def test_duplicates_have_a_mate_above_the_threshold(study: Study, tmp_path: Path) -> None:
    rows = make_split(study, tmp_path / "s.parquet", "full", threshold=0.95)
    vectors = dict(zip(study.pool.keys, study.pool.vectors.astype(np.float64), strict=True))
    dropped = {r["key"] for r in rows if r["reason"] == "duplicate"}
    for key in study.pool.keys:
        mates = [k for k in study.pool.keys if k < key and vectors[k] @ vectors[key] > 0.95]
        assert (key in dropped) == bool(mates)
    assert dropped


def test_pruning_spares_duplicates_no_second_reason(study: Study, tmp_path: Path) -> None:
    """Without de-duplication more points are candidates, and copies share their fate."""
    rows = make_split(study, tmp_path / "s.parquet", "pruned", threshold=1.5, sets=["sketch"])
    assert candidates(rows) == set(study.pool.keys)
    fate: dict[bytes, set[bool]] = {}
    for key, vector in zip(study.pool.keys, study.pool.vectors, strict=True):
        fate.setdefault(vector.tobytes(), set()).add(key in kept(rows))
    assert all(len(both) == 1 for both in fate.values())


def test_larger_tolerance_removes_a_subset(study: Study, tmp_path: Path) -> None:
    chain = [
        removed(make_split(study, tmp_path / f"{i}.parquet", "pruned", sets=SETS, tolerance=t))
        for i, t in enumerate((-0.3, 0.0, 1e-5, 0.05, 0.2, 2.0))
    ]
    assert all(large >= small for large, small in pairwise(chain))
    assert chain[0] > chain[-1] == set()


def test_scores_in_the_table_are_those_that_decided(study: Study, tmp_path: Path) -> None:
    rows = make_split(study, tmp_path / "p.parquet", "pruned", sets=SETS)
    for r in rows:
        if r["reason"] == "reference":
            continue
        assert r["similarity"] == r["threshold"] + r["margin"]
        gaps = {n: (study.similarity(n, [r["key"]]) - study.limit(n)).max() for n in SETS}
        assert r["margin"] == max(gaps.values())
        assert gaps[r["test_set"]] == max(gaps.values())
        assert r["nearest_test_key"].startswith(r["test_set"])
