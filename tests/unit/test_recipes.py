"""Core sets, pruned reference sets, reference alone: against their definitions."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.study.config.splits import Split
from tests.unit.study import Study, candidates, kept, make_split, make_study

SETS = ["sketch", "photo"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def core_set(study: Study, points: set[str], combine: str, k: int) -> set[str]:
    """The core set by its definition; equal similarities by key."""
    best = {
        name: {key: float(np.float32(study.similarity(name, [key]).max())) for key in points}
        for name in SETS
    }
    mine = {key: max(range(2), key=lambda i: (best[SETS[i]][key], -i)) for key in points}
    if combine == "max":
        order = sorted(points, key=lambda key: (best[SETS[mine[key]]][key], key), reverse=True)
        return set(order[:k])
    lists = []
    for place, name in enumerate(SETS):
        own = points if combine == "union" else {key for key in points if mine[key] == place}
        lists.append(sorted(own, key=lambda key, name=name: (-best[name][key], key)))
    chosen: list[str] = []
    for rank in range(len(points)):
        for line in lists:
            if rank < len(line) and line[rank] not in chosen:
                chosen.append(line[rank])
    return set(chosen[:k])


@given(st.integers(0, 20), st.sampled_from(["max", "quota", "union"]), st.integers(2, 30))
@settings(max_examples=25, deadline=None)
def test_core_set_by_its_readings(
    tmp_path_factory: pytest.TempPathFactory, seed: int, combine: str, k: int
) -> None:
    folder = tmp_path_factory.mktemp("s")
    study = make_study(folder, seed, n=40, distinct=17, threshold=0.9999 if seed % 2 else 1.5)
    rows = make_split(study, folder / "full.parquet", "full")
    k = min(k, len(candidates(rows)))
    rows = make_split(study, folder / "s.parquet", "far", keep=k, sets=SETS, combine=combine)
    assert kept(rows) == core_set(study, candidates(rows), combine, k)


@pytest.mark.parametrize("combine", ["max", "quota", "union"])
def test_core_sets_are_nested_and_of_exact_size(study: Study, tmp_path: Path, combine: str) -> None:
    sizes = [2, 3, 7, 12, len(candidates(make_split(study, tmp_path / "f.parquet", "full")))]
    chain = [
        kept(make_split(study, tmp_path / "s.parquet", "far", keep=k, sets=SETS, combine=combine))
        for k in sizes
    ]
    assert [len(part) for part in chain] == sizes
    assert all(small < large for small, large in pairwise(chain))


def test_readings_of_the_core_set_differ(study: Study, tmp_path: Path) -> None:
    found = [
        frozenset(kept(make_split(
            study, tmp_path / "s.parquet", "far", keep=16, sets=SETS, combine=combine
        )))
        for combine in ("max", "quota", "union")
    ]  # fmt: skip
    assert len(set(found)) == 3


def test_quota_gives_every_set_its_share(study: Study, tmp_path: Path) -> None:
    rows = make_split(study, tmp_path / "s.parquet", "far", keep=10, sets=SETS, combine="quota")
    by_set = [sum(r["test_set"] == name and r["kept"] for r in rows) for name in SETS]
    assert by_set == [5, 5]


def test_the_reference_set_alone(study: Study, tmp_path: Path) -> None:
    rows = make_split(study, tmp_path / "s.parquet", "none")
    assert not kept(rows)
    assert {r["key"] for r in rows if r["kept"]} == set(study.reference.keys)
    assert {r["reason"] for r in rows} == {"reference", "duplicate", "no pool points"}
    with pytest.raises(ClipshiftError, match="keeps nothing"):
        make_split(study, tmp_path / "s.parquet", "none", reference=False)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"recipe": "near", "sets": ["sketch"], "keep": 4}, "near-pruned"),
        ({"recipe": "far", "sets": SETS, "keep": 4}, "far-pruned"),
        ({"recipe": "rand", "keep": 4, "seed": 3}, "rand-pruned"),
        ({"recipe": "pruned", "sets": ["sketch"], "tolerance": -0.05}, "closer than"),
    ],
)
def test_the_reference_set_is_pruned_by_the_same_rules(
    study: Study, tmp_path: Path, rule: Any, reason: str
) -> None:
    out = tmp_path / "s.parquet"
    whole = make_split(study, tmp_path / "w.parquet", "pruned", sets=["photo"])
    rows = make_split(study, out, "pruned", sets=["photo"], reference=rule)
    # The pool's part does not change: thresholds stay those of the whole reference set.
    assert kept(rows) == kept(whole)
    mine = {r["key"]: r for r in rows if r["reason"].startswith("reference")}
    assert set(mine) == set(study.reference.keys)
    gone = {key for key, r in mine.items() if not r["kept"]}
    assert gone and {r["reason"].split(": ")[-1][: len(reason)] for r in mine.values()} == {
        "reference", reason
    }  # fmt: skip
    vectors = study.reference.vectors.astype(np.float64)
    tests = study.tests["sketch"].vectors.astype(np.float64)
    s = dict(zip(study.reference.keys, (vectors @ tests.T), strict=True))
    if rule["recipe"] == "near":
        best = {key: s[key].max() for key in s}
        assert max(best[k] for k in set(s) - gone) <= min(best[k] for k in gone)
    if rule["recipe"] == "pruned":
        limit = study.limit("sketch")[:, 0]
        assert gone == {key for key in s if (s[key] - limit).max() > -0.05}
    else:
        assert len(mine) - len(gone) == 4
    step_counts = read_json(out.with_suffix(".json"))
    assert step_counts["reference_kept"] == len(mine) - len(gone)
    assert step_counts["in"] == step_counts["out"] + sum(step_counts["rejected"].values())


def test_an_unembedded_reference_point_is_named(study: Study, tmp_path: Path) -> None:
    from dataclasses import replace

    from clipshift.datasets.shards import write_table
    from tests.conftest import row

    names = [*(key.removeprefix("ref-") for key in study.reference.keys), "lost"]
    write_table(tmp_path / "reference.parquet", [row("ref", name) for name in names])
    lost = replace(study, scores=replace(study.scores, reference=[tmp_path / "reference.parquet"]))
    rule = {"recipe": "near", "sets": ["sketch"], "keep": 4}
    rows = make_split(lost, tmp_path / "s.parquet", "full", reference=rule)
    reasons = {r["key"]: r["reason"] for r in rows}
    assert reasons["ref-lost"] == "reference: not embedded"
    assert not next(r["kept"] for r in rows if r["key"] == "ref-lost")


@given(
    st.integers(0, 30), st.integers(1, 30), st.integers(1, 4), st.integers(1, 5),
    st.sampled_from(["max", "quota", "union"]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_awkward_shapes_keep_the_invariants(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, distinct: int, images: int,
    combine: str,
) -> None:  # fmt: skip
    """One test image, one point, all points equal, ties everywhere: the rules hold."""
    folder = tmp_path_factory.mktemp("s")
    study = make_study(folder, seed, n, min(2, n), distinct=distinct, images=images)
    full = make_split(study, folder / "full.parquet", "full")
    left = candidates(full)
    assert kept(full) == left and left
    parts = {}
    for names in (SETS[:1], SETS[1:], SETS):
        rows = make_split(study, folder / "p.parquet", "pruned", sets=names)
        parts[len(parts)] = kept(rows)
        for name in names:
            if kept(rows):
                nearest = study.similarity(name, sorted(kept(rows))).max(1, keepdims=True)
                assert (nearest <= study.limit(name)).all()
    assert left - parts[2] == (left - parts[0]) | (left - parts[1])
    for k in {2, len(left) // 2, len(left)}:
        if not 1 < k <= len(left):  # one point is no size that can be asked for
            continue
        near = make_split(study, folder / "n.parquet", "near", keep=k, sets=SETS)
        keys = {"sets": SETS, "combine": combine}
        far = make_split(study, folder / "f.parquet", "far", keep=k, **keys)
        assert len(kept(near)) == len(kept(far)) == k
        if combine == "max" and k < len(left) - 1:
            rest = make_split(study, folder / "f.parquet", "far", keep=len(left) - k, **keys)
            assert kept(near) | kept(rest) == left and not kept(near) & kept(rest)


def test_a_nested_rule_is_spelt_like_a_split() -> None:
    adapter: Any = TypeAdapter(Split)
    spec = adapter.validate_python({"recipe": "full", "reference": {"recipe": "rand", "keep": 0.5}})
    assert adapter.validate_json(adapter.dump_json(spec)) == spec
    with pytest.raises(ValidationError, match="full"):
        adapter.validate_python({"recipe": "full", "reference": {"recipe": "full"}})
