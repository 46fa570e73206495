"""Pools in object storage: their block, their words, and what is said where they cannot be read."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets import external_pool, object_storage
from clipshift.datasets.tar_paths import located
from clipshift.study.config.folders import STORAGE_VARIABLE, StoredPool
from tests.folder_case import write_pool

BLOCK: dict[str, Any] = {"storage": "s3://b/web", "tars": 4, "shards": 2, "samples": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gaps": [1, 4]}, r"`gaps` are numbers from 0 to 3, found \[4\]"),
        ({"gaps": [3, 2]}, "1 of 2 shards have no tar; lower `shards`"),
        ({"shards": 5}, "5 shards share 4 tars"),
        ({"storage": "s3://b/web/"}, "should match pattern"),
        ({"storage": "/mnt/b"}, "should match pattern"),
        ({"folder": "web"}, "Extra inputs are not permitted"),
    ],
)
def test_faults_of_the_block(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StoredPool.model_validate(BLOCK | change)


def test_where_fetched_objects_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "s3://b/web/{00000..00003}.tar"
    fetched = Path("b/web/{00000..00003}.tar")
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)
    assert located(word, Path("data")) == ".snakemake/storage/s3" / fetched
    monkeypatch.setenv(STORAGE_VARIABLE, "/scratch/s3")
    assert located(word, Path("data")) == "/scratch/s3" / fetched


def test_a_table_needs_no_tar_where_tars_are_stored(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "web", {0: 2, 1: 1})
    tars = [folder / f"{i:05d}.tar" for i in range(3)]
    whole = external_pool.write_group("web", tars, tmp_path / "a/00000.parquet")
    for tar in tars[:2]:
        tar.unlink()
    bare = external_pool.write_group("web", tars, tmp_path / "b/00000.parquet", stored=True)
    assert bare.as_json() == whole.as_json()
    a, b = (read_parquet(tmp_path / name / "00000.parquet") for name in "ab")
    # Without the images nobody can say whether a hash is that of the stored ones.
    assert b["sha256_of_download"].to_pylist() == a["sha256"].to_pylist()
    assert b["sha256"].null_count == len(b)
    assert b.drop_columns(["sha256", "sha256_of_download"]) == a.drop_columns(["sha256"])
    assert (tmp_path / "b/00000.json").read_bytes() == (tmp_path / "a/00000.json").read_bytes()
    (folder / "00001_stats.json").unlink()
    with pytest.raises(ClipshiftError, match=r"00001_stats\.json is missing"):
        external_pool.write_group("web", tars, tmp_path / "b/00000.parquet", stored=True)


def test_without_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "find_spec", lambda name: None)
    with pytest.raises(ClipshiftError, match=r"pools\.web\.storage.*make storage"):
        object_storage.check({"web": StoredPool.model_validate(BLOCK)}, None, ask=False)
