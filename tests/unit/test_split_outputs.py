"""What a split writes, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_parquet
from clipshift.datasets.shards import write_table
from clipshift.splits import split
from clipshift.splits.recipes import Margins
from clipshift.splits.recipes.full import Full
from clipshift.splits.recipes.near import Near
from clipshift.splits.recipes.rand import Rand
from tests.conftest import row
from tests.unit.study import Study, candidates, kept, make_split, make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("study"))


def test_split_larger_than_the_pool_is_refused_with_the_number(
    study: Study, tmp_path: Path
) -> None:
    left = len(candidates(make_split(study, tmp_path / "full.parquet", "full")))
    with pytest.raises(ClipshiftError, match=rf"big.*{left + 1}.*only {left}\b"):
        make_split(study, tmp_path / "big.parquet", "rand", keep=left + 1)
    assert not list(tmp_path.glob("big*"))
    assert len(kept(make_split(study, tmp_path / "all.parquet", "rand", keep=left))) == left


def test_keep_as_share_and_as_count(study: Study, tmp_path: Path) -> None:
    """2 is two points and 1.0 is all of them, in Python and through JSON."""
    left = len(candidates(make_split(study, tmp_path / "full.parquet", "full")))
    for keep, size in ((2, 2), (1.0, left), (0.5, round(left / 2)), (3, 3), (1e-9, 0)):
        rows = make_split(study, tmp_path / "s.parquet", "rand", keep=keep)
        assert len(kept(rows)) == size
        spec = Rand(recipe="rand", keep=keep)
        assert type(Rand.model_validate_json(spec.model_dump_json()).keep) is type(keep)


def test_keep_as_large_as_another_split(study: Study, tmp_path: Path) -> None:
    pruned = make_split(study, tmp_path / "pruned.parquet", "pruned", sets=["sketch"])
    spec = Rand(recipe="rand", keep="pruned")
    scores = replace(study.scores, like=tmp_path / "pruned.json")
    split.make(spec, scores, tmp_path / "control.parquet")
    assert len(kept(pq.read_table(tmp_path / "control.parquet").to_pylist())) == len(kept(pruned))
    with pytest.raises(ClipshiftError, match=r"pruned.*missing"):
        split.make(spec, study.scores, tmp_path / "control.parquet")


def test_nothing_kept_is_refused(study: Study, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"sets": ["sketch"], "tolerance": -2.0, "reference": False}
    with pytest.raises(ClipshiftError, match="none keeps nothing"):
        make_split(study, tmp_path / "none.parquet", "pruned", **keys)
    assert not list(tmp_path.iterdir())


def test_points_without_an_embedding_keep_their_row(tmp_path: Path) -> None:
    study = make_study(tmp_path, lost=4)
    recipes: dict[str, dict[str, Any]] = {
        "full": {},
        "rand": {"keep": 5},
        "near": {"keep": 5, "sets": ["sketch"]},
        "pruned": {"sets": ["sketch"]},
    }
    for recipe, keys in recipes.items():
        rows = make_split(study, tmp_path / "s.parquet", recipe, **keys)
        lost = {r["key"] for r in rows if r["reason"] == "not embedded"}
        assert lost == {f"pool-{i:03d}" for i in range(4)}
        assert not lost & kept(rows)
    rows = make_split(study, tmp_path / "s.parquet", "full", threshold=1.5)
    assert len(kept(rows)) == 76


def test_without_deduplication_only_unembedded_points_fall(tmp_path: Path) -> None:
    study = make_study(tmp_path, lost=4)
    keys = [key for key in study.pool.keys if int(key.removeprefix("pool-")) >= 4]
    write_parquet(tmp_path / "metadata.parquet", pa.table({"image_path": keys}))
    scores = replace(study.scores, embedded=[tmp_path / "metadata.parquet"])
    split.make(Full(recipe="full"), scores, tmp_path / "s.parquet")
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert len(kept(rows)) == 76


def test_candidate_without_a_margin_is_refused(study: Study, tmp_path: Path) -> None:
    margins = {name: files[:-1] for name, files in study.scores.margins.margins.items()}
    spec = Near(recipe="near", keep=3, sets=["sketch"])
    with pytest.raises(ClipshiftError, match="points have no margins"):
        split.make(
            spec,
            replace(study.scores, margins=replace(study.scores.margins, margins=margins)),
            tmp_path / "s.parquet",
        )


def test_reference_key_in_the_pool_is_refused(study: Study, tmp_path: Path) -> None:
    write_table(tmp_path / "reference.parquet", [row("pool", "003"), row("ref", "x")])
    scores = replace(study.scores, reference=[tmp_path / "reference.parquet"])
    with pytest.raises(ClipshiftError, match="'pool-003' is in the pool and in the reference"):
        split.make(Full(recipe="full"), scores, tmp_path / "s.parquet")


@pytest.mark.parametrize("reference", [True, False])
def test_exports(study: Study, tmp_path: Path, reference: bool) -> None:
    out = tmp_path / "s.parquet"
    rows = make_split(study, out, "near", keep=20, sets=["sketch"], reference=reference)
    table = {r["key"]: r for r in rows}
    keys = np.load(out.with_suffix(".keys.npy"))
    assert list(keys) == sorted(k for k, r in table.items() if r["kept"])
    assert len(keys) == 20 + len(study.reference.keys) * reference
    subset = np.load(out.with_suffix(".subset_u8u8.npy"))
    assert subset.dtype == np.dtype("u8,u8")
    hashes = [table[k]["url_hash"] for k in keys]
    assert subset.tolist() == sorted((int(h[:16], 16), int(h[16:32], 16)) for h in hashes)
    sizes = read_json(out.with_suffix(".sizes.json"))
    assert sum(sizes.values()) == 20
    for file in study.scores.pool:
        mine = set(pq.read_table(file)["key"].to_pylist())
        assert sizes[f"{file.stem}.tar"] == len(mine & kept(rows))


def test_account_adds_up(study: Study, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    rows = make_split(study, out, "pruned", sets=["sketch"])
    step_counts = read_json(out.with_suffix(".json"))
    assert StepCounts.from_json(step_counts).came_in == len(rows)
    assert step_counts["out"] == sum(r["kept"] for r in rows)
    assert step_counts["points_kept"] == len(kept(rows))
    assert step_counts["candidates"] == len(candidates(rows))
    assert set(step_counts["rejected"]) == {"duplicate", "closer than the reference set"}
    assert step_counts["rejected"]["duplicate"] == 80 - step_counts["candidates"]


def test_same_inputs_give_the_same_bytes_at_size(tmp_path: Path) -> None:
    """Two row groups and several threads, where the order of rows could come apart."""
    n = 130_000
    keys = [f"p-{i:06d}" for i in range(n)]
    text = pa.array(keys)
    columns = {"key": text, "url_hash": pa.array([f"{i:032x}" for i in range(n)]), "sha256": text}
    write_parquet(tmp_path / "00000.parquet", pa.table(columns))
    write_parquet(
        tmp_path / "d.parquet",
        pa.table({"key": text, "dropped": np.zeros(n, dtype=bool)}),
    )
    scores = split.Scores(
        [tmp_path / "00000.parquet"], [tmp_path / "d.parquet"], Margins({}, {}), [], Margins({}, {})
    )
    written = []
    for name in "ab":
        out = tmp_path / name / "s.parquet"
        split.make(Rand(recipe="rand", keep=0.5), scores, out)
        written.append({f.name: f.read_bytes() for f in out.parent.iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 5


def test_hash_of_the_download_stands_in_where_that_of_the_image_is_not_known(
    tmp_path: Path,
) -> None:
    rows = pa.Table.from_pylist([row("s", str(i)) for i in range(3)])
    hashes = {"sha256": ["a", None, None], "sha256_of_download": [None, "b", None]}
    for name, values in hashes.items():
        rows = rows.drop_columns([name] if name in rows.column_names else [])
        rows = rows.append_column(name, pa.array(values, pa.string()))
    write_parquet(tmp_path / "00000.parquet", rows)
    tables = [tmp_path / "00000.parquet"]
    scores = split.Scores(tables, tables, Margins({}, {}), [], Margins({}, {}))
    split.make(Full(recipe="full", reference=False), scores, tmp_path / "full.parquet")
    found = pq.read_table(tmp_path / "full.parquet", columns=["key", "sha256"]).to_pylist()
    assert [r["sha256"] for r in found] == ["a", "b", None]
