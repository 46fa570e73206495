"""Data that the user already has: tables of folder pools and sets, the inventory, words of tars."""

from pathlib import Path
from typing import Any

import pytest

from clipshift.core.brace_ranges import compact, spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets import external_pool, external_set, prompts
from clipshift.datasets.external_check import take_stock
from clipshift.datasets.shards import SAMPLE_SCHEMA, url_hash
from clipshift.datasets.tar_paths import read_tars, tars_of
from clipshift.study.config.folders import FolderPool, FolderSet
from tests.folder_case import write_pool, write_set

SET = FolderSet(folder="set", classes=2, samples=5, obtain="ask for it")


def group(folder: Path, tmp_path: Path, tars: int = 4) -> Any:
    tars_of_group = [folder / f"{i:05d}.tar" for i in range(tars)]
    return external_pool.write_group("web", tars_of_group, tmp_path / "out/00000.parquet")


def test_table_and_account_of_a_group(tmp_path: Path) -> None:
    """Failed rows by status, and a gap in the numbers."""
    folder = write_pool(tmp_path / "p", {0: 3, 1: 2, 3: 1}, failed=2)
    step_counts = group(folder, tmp_path)
    assert (step_counts.came_in, step_counts.went_out) == (12, 6)
    assert step_counts.rejected == {"failed_to_download": 3, "failed_to_resize": 3}
    entry = read_json(tmp_path / "out/00000.json")
    assert entry["shard"]["tars"] == {"00000": 3, "00001": 2, "00003": 1}
    assert entry["shard"]["missing"] == ["00002"]
    table = read_parquet(tmp_path / "out/00000.parquet")
    assert table.schema.equals(SAMPLE_SCHEMA)
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == [
        "000000000", "000000001", "000000002", "000010000", "000010001", "000030000",
    ]  # fmt: skip
    assert rows[4]["url_hash"] == url_hash("http://x/000010001.jpg")
    assert rows[4]["locator"] == "http://x/000010001.jpg"
    assert {(row["source"], row["class_name"]) for row in rows} == {("web", None)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: (f / "00001_stats.json").unlink(),
            r"00001_stats\.json is missing.*run it again",
        ),
        (lambda f: (f / "00001.tar").unlink(), r"00001\.tar is missing.*download it again"),
        (lambda f: (f / "00001.parquet").write_bytes(b"torn"), r"00001\.parquet is not a readable"),
        (lambda f: write_pool(f, {1: 2}, drop=["sha256"]), r"lacks.*sha256.*--compute_hash sha256"),
        (lambda f: [x.unlink() for x in f.iterdir()], "no sample was downloaded"),
    ],
)
def test_faults_of_a_group_say_what_to_do(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = write_pool(tmp_path / "p", {0: 1, 1: 2})
    spoil(folder)
    with pytest.raises(ClipshiftError, match=message):
        group(folder, tmp_path)
    assert not (tmp_path / "out/00000.parquet").exists()


def test_sample_without_a_hash_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = write_pool(tmp_path / "p", {0: 2})
    rows = pq.read_table(folder / "00000.parquet").to_pylist()
    rows[0]["sha256"] = None
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    with pytest.raises(ClipshiftError, match=r"1 downloaded rows have no sha256.*--compute_hash"):
        group(folder, tmp_path, 1)


def set_in(folder: Path, **changes: Any) -> FolderSet:
    return SET.model_copy(update={"folder": str(folder / "set"), **changes})


def test_table_of_a_set(tmp_path: Path) -> None:
    write_set(tmp_path / "set", [0, 1, 1, 0, 1])
    external_set.build("pets", set_in(tmp_path), tmp_path / "out")
    table = read_parquet(tmp_path / "out/samples.parquet")
    assert table["class_name"].to_pylist() == ["cat", "dog", "dog", "dog", "cat"]  # by tar
    manifest = read_json(tmp_path / "out/manifest.json")
    assert manifest["account"]["out"] == 5
    assert manifest["classes"] == {"cat": 2, "dog": 3}


@pytest.mark.parametrize(
    ("given", "spec", "message"),
    [
        ({"labels": [0, 1]}, {}, "expected 5 samples, found 2"),
        ({"labels": [0] * 5}, {}, "expected 2 classes with a sample, found 1"),
        ({"labels": [0, 1, 2, 0, 0]}, {}, "has the label 2, expected a class from 0 to 1"),
        ({"labels": [0, 1] * 2}, {"classes": 3}, r"classnames\.txt: expected 3 classes, found 2"),
        (
            {"labels": [0, 1], "names": [f"x{i}" for i in range(1000)]},
            {"classes": 1000, "names": "openai_imagenet"},
            "not the classes of ImageNet in their order; class 0 is expected to be 'tench'",
        ),
    ],
)
def test_set_that_is_not_as_configured(
    tmp_path: Path, given: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    write_set(tmp_path / "set", **given)
    with pytest.raises(ClipshiftError, match=message):
        external_set.build("pets", set_in(tmp_path, **spec), tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_openai_names_replace_those_of_the_file(tmp_path: Path) -> None:
    names = prompts.imagenet_names()
    write_set(tmp_path / "set", [0], names=[name.upper() for name in names])
    spec = SET.model_copy(update={"classes": 1000, "names": "openai_imagenet"})
    assert external_set.class_names(spec, tmp_path / "set") == names


def test_named_templates() -> None:
    found = prompts.templates(["openai_imagenet"])
    assert (len(found), found[0]) == (80, "a bad photo of a {c}.")
    assert prompts.templates(["{c}", "a {c}"]) == ["{c}", "a {c}"]
    with pytest.raises(ClipshiftError, match=r"'openai' has no \{c\}"):
        prompts.templates(["openai"])


def test_inventory_tells_all_that_is_missing_at_once(tmp_path: Path) -> None:
    write_pool(tmp_path / "web", {0: 1, 2: 1, 3: 1})
    (tmp_path / "web/00003_stats.json").unlink()
    (tmp_path / "web/00002.tar").unlink()
    write_set(tmp_path / "half", [0, 1])
    (tmp_path / "half/test/1.tar").unlink()
    (tmp_path / "half/classnames.txt").unlink()
    pool = FolderPool(folder="web", tars=4, shards=2, samples=3, obtain="img2dataset --x")
    folders = {"web": pool, "gone": SET, "half": SET.model_copy(update={"folder": "half"})}
    with pytest.raises(ClipshiftError) as error:
        take_stock(folders, tmp_path)
    message = str(error.value)
    for expected in (
        f"{tmp_path}/web  (pools.web.folder)",
        "1 tars without a _stats.json were never finished: 00003; run img2dataset again",
        "1 tables without their tar: 00002",
        "to get it:\n      img2dataset --x",
        f"{tmp_path}/set  (sets.gone.folder)",
        "there is no such folder",
        "to get it:\n      ask for it",
        f"{tmp_path}/half  (sets.half.folder)",
        "it has no classnames.txt",
        "nshards.txt says 2 tars, but 1 are missing, the first 1.tar",
    ):
        assert expected in message, message


def test_inventory_of_whole_folders(tmp_path: Path) -> None:
    write_pool(tmp_path / "web", {0: 1, 2: 1})
    write_set(tmp_path / "set", [0, 1])
    pool = FolderPool(folder="web", tars=3, shards=2, samples=2)
    found = take_stock({"web": pool, "pets": SET}, tmp_path)
    assert found["web"]["numbers_without_a_tar"] == ["00001"]
    assert (found["web"]["tars"], found["pets"]["tars"]) == (2, 2)


def test_words_of_tars(tmp_path: Path) -> None:
    write_pool(tmp_path / "web", {0: 2, 2: 1})
    write_set(tmp_path / "set", [0, 1])
    found = tars_of(["data:web/{00000..00003}.tar", "data:set/test", "own.tar"], tmp_path)
    assert [str(f.relative_to(tmp_path)) if f.is_absolute() else str(f) for f in found] == [
        "web/00000.tar", "web/00002.tar", "set/test/0.tar", "set/test/1.tar", "own.tar",
    ]  # fmt: skip
    assert [s.key for s in read_tars(found[:2])] == ["000000000", "000000001", "000020000"]
    with pytest.raises(ClipshiftError, match="none of the tars"):
        tars_of(["data:web/{00007..00008}.tar"], tmp_path)


def test_truncated_tar_is_named(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "web", {0: 3})
    tar = folder / "00000.tar"
    tar.write_bytes(tar.read_bytes()[:2500])
    with pytest.raises(ClipshiftError, match=r"00000\.tar is truncated or damaged"):
        list(read_tars(tars_of(["data:web/{00000..00000}.tar"], tmp_path)))


def test_row_without_a_sample_is_not_lost_silently(tmp_path: Path) -> None:
    import torch

    from clipshift.datasets.shards import write_tar
    from clipshift.similarity import embed
    from clipshift.similarity.encoder import Encoder

    folder = write_pool(tmp_path / "p", {0: 3})
    group(folder, tmp_path, 1)
    write_tar(folder / "00000.tar", list(read_tars(folder / "00000.tar"))[:2])
    encoder = Encoder(lambda _: torch.ones(3, 2, 2), lambda x: x.flatten(1), 4, torch.device("cpu"))
    table = tmp_path / "out/00000.parquet"
    with pytest.raises(ClipshiftError, match=r"lists 3 samples.*hold 2"):
        embed.embed(encoder, [folder / "00000.tar"], table, "00000", tmp_path / "e")


@pytest.mark.parametrize(
    "paths",
    [
        [f"r/img_emb_{i:05d}.npy" for i in range(12)],
        ["a/00001.parquet", "a/00002.parquet", "b/00003.parquet", "c.json", "a/00004.parquet"],
        [],
    ],
)
def test_ranges_spell_out_the_same_paths(paths: list[str]) -> None:
    assert [str(path) for word in compact(paths) for path in spread(word)] == paths
