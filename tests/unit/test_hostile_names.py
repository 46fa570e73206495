"""A file's name is a name: never a pattern, a query, a range, a column, a word of a shell."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.apps.labelling.released import Subset, released
from clipshift.core.brace_ranges import sharded, spread
from clipshift.core.database import database, parquet
from clipshift.core.files import read_parquet, write_json, write_npy
from clipshift.datasets import external_pool
from clipshift.datasets.captions.join import entries
from clipshift.datasets.tar_paths import tars_of
from clipshift.datasets.urls.listing import read_shard, write_list
from clipshift.similarity.external_embeddings import index, pick
from clipshift.study.config.urls import UrlPool
from clipshift.study.layout.urls import Urls
from clipshift.training.shards import Shards, write_shards
from clipshift.training.tar_filter import pool_shards, prepare
from tests.conftest import unit
from tests.folder_case import write_pool

NAMES = [
    "a[1]b", "a*b", "a?b", "**", "[!x]", "o'brien", 'say "a"', "a b", "100%", "a%20b", "{a}",
    "{0..3}", "{00000..00001}", "{", "{shard}", "back\\slash", "\\", "\\[1]", "#1", "é日", "-n",
    "--", "a\nb", "key=3", "~", "$HOME", "`id`", "a;b", "a&b", "x::y", "pipe:cat", "http:", "s3:",
    "a,b", "00000",
]  # fmt: skip
# What a pattern of some of the names would match, too.
DECOYS = ["a1b", "axb", "aab", "x"]


@pytest.fixture(params=NAMES)
def home(request: Any, tmp_path: Path) -> Path:
    """A folder with an odd name, beside folders that its name as a pattern would match."""
    for name in DECOYS:
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"key": ["decoy"]}), tmp_path / name / "a.parquet")
    folder: Path = tmp_path / request.param
    folder.mkdir()
    return folder


def test_queries_over_files(home: Path) -> None:
    files = [home / "a.parquet", home / f"{home.name}.parquet"]
    for place, file in enumerate(files):
        pq.write_table(pa.table({"key": [str(place)]}), file)
    with database() as db:
        found = db.execute(f"SELECT key, file_index FROM {parquet(files)}").fetchall()
        assert found == [("0", 0), ("1", 1)]
        assert db.execute(f"FROM {parquet(files)} LIMIT 1").fetchall() == [("0",)]


def test_the_same_from_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"key": ["mine"]}), home / "a.parquet")
    monkeypatch.chdir(home.parent)
    with database() as db:
        assert db.execute(f"FROM {parquet([Path(home.name, 'a.parquet')])}").fetchall() == [
            ("mine",)
        ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_lists_of_urls(home: Path, suffix: str) -> None:
    table = pa.table({"url": ["http://1"], "caption": ["a"]})
    file = home / f"{home.name}{suffix}"
    if suffix == ".csv":
        file.write_text("url,caption\nhttp://1,a\n")
    else:
        pq.write_table(table, file)
    out = home / f"out{home.name}.parquet"
    write_list("p", [file], ("url", "caption"), 1, out)
    assert read_shard(out, 0)["url"].to_pylist() == ["http://1"]


def test_embeddings_of_the_user(home: Path, tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(3, 8)))
    for folder, names in ((home, ["a", "b", "c"]), (tmp_path / "x", ["other"] * 3)):
        write_npy(folder / "img_emb/img_emb_0.npy", vectors.astype(np.float16))
        (folder / "metadata").mkdir()
        pq.write_table(pa.table({"image_path": names}), folder / "metadata/metadata_0.parquet")
    out = home / "out"
    index(str(home), "image_path", out / "index.parquet")
    assert read_parquet(out / "index.parquet")["name"].to_pylist() == ["a", "b", "c"]
    rows = {"key": ["c"], "caption": ["x"], "url_hash": ["u"], "sha256": ["s"], "locator": ["l"]}
    pq.write_table(pa.table(rows), home / "table.parquet")
    pick(str(home), out / "index.parquet", home / "table.parquet", "00000", out)
    found = np.load(out / "img_emb/img_emb_00000.npy")
    np.testing.assert_array_equal(found, vectors[2:].astype(np.float16))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_released_labels(home: Path, suffix: str) -> None:
    rows = {"URL": ["http://1"], "TEXT": ["a"]}
    theirs = home / "released" / home.name / f"{home.name}{suffix}"
    theirs.parent.mkdir(parents=True)
    if suffix == ".csv":
        theirs.write_text("URL,TEXT\nhttp://1,a\n")
    elif suffix == ".json":
        theirs.write_text('[{"URL": "http://1", "TEXT": "a"}]')
    else:
        pq.write_table(pa.table(rows), theirs)
    pool = home / "pool"
    pool.mkdir()
    pq.write_table(pa.table({"key": ["k"], "url": ["http://1"], "caption": ["a"]}),
                   pool / f"{home.name}.parquet")  # fmt: skip
    out = home / "labels.parquet"
    released(home / "released", [Subset(home.name, 0)], pool, out)
    assert read_parquet(out)["key"].to_pylist() == ["k"]


def test_captions_in_json(home: Path) -> None:
    file = home / f"{home.name}.json"
    file.write_text('[{"filename": "a.jpg", "wnid": "n1"}]')
    assert [entry["filename"] for entry in entries(file)] == ["a.jpg"]


def test_tars_in_place_and_their_filter(home: Path) -> None:
    write_pool(home / "web", {0: 2, 1: 0})
    tars = tars_of(["data:web/{00000..00001}.tar"], home)
    assert [tar.parent for tar in tars] == [home / "web"] * 2
    table = home / "tables/00000.parquet"
    external_pool.write_group("w", tars, table)
    keys = read_parquet(table)["key"].to_pylist()
    split = home / "split.parquet"
    rows = [{"key": key, "kept": True, "reason": "kept"} for key in sorted(keys)]
    pq.write_table(pa.Table.from_pylist(rows), split)
    assert prepare(split, [table], tars, home / "keep") == 2
    write_shards(home / "shards.json", pool_shards(tars, home / "keep"))
    shards = Shards(home / "shards.json")
    found = [sample["__key__"] for sample in shards.source({"url": n} for n in shards.names)]
    assert sorted(found) == sorted(keys)


def test_ranges_are_of_names_of_files(home: Path) -> None:
    word = str(home / "{00000..00001}.npy")
    assert spread(word) == [home / "00000.npy", home / "00001.npy"]
    pattern = {"pattern": str(home / "{shard}.npy"), "shards": 2}
    assert sharded(pattern) == [str(home / "00000.npy"), str(home / "00001.npy")]
    write_json(home / "{00000..00001}.tar", {})
    assert tars_of([str(home / "{00000..00001}.tar")], home) == [home / "{00000..00001}.tar"]


def test_lists_with_braces_are_no_inputs_of_snakemake() -> None:
    """It takes braces for wildcards, also in what an input function returns."""
    pools = {"p": UrlPool(urls=["a.csv", "{b}.csv"], shards=1)}
    at: Any = SimpleNamespace(cfg=SimpleNamespace(data="data", pools=pools))
    urls = Urls(at)
    assert urls.files("p") == ["data/a.csv", "data/{b}.csv"]
    assert urls.inputs("p") == ["data/a.csv"]
