"""Data that the user already has: tables of folder pools and sets, the inventory, words of tars."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.brace_ranges import compact, spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet
from clipshift.datasets import external_pool, external_set, prompts
from clipshift.datasets.external_check import take_stock
from clipshift.datasets.labels import check_labels
from clipshift.datasets.pool import sum_shards
from clipshift.datasets.shards import SAMPLE_SCHEMA, url_hash, write_tar
from clipshift.datasets.tar_paths import read_tars, tars_of
from clipshift.datasets.tars import Sample
from clipshift.study.config.folders import FolderPool, FolderSet
from tests.conftest import photo
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
        (lambda f: write_pool(f, {1: 2}, drop=["url"]), r"00001\.parquet lacks.*url.*--url_col"),
        (
            lambda f: copy_keys(f, 0, 1),
            r"/p/00000\.tar and /.*/p/00001\.tar: the key '000000000' occurs twice",
        ),
        (lambda f: [x.unlink() for x in f.iterdir()], "none of these tars has its table"),
    ],
)
def test_faults_of_a_group_say_what_to_do(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = write_pool(tmp_path / "p", {0: 1, 1: 2})
    spoil(folder)
    with pytest.raises(ClipshiftError, match=message):
        group(folder, tmp_path)
    assert not (tmp_path / "out/00000.parquet").exists()


def change(table: Path, **columns: Any) -> None:
    """Change columns of a table; None: take one away."""
    rows = pq.read_table(table).to_pylist()
    for i, row in enumerate(rows):
        row.update({name: values and values[i] for name, values in columns.items()})
    gone = {name for name, values in columns.items() if values is None}
    pq.write_table(
        pa.Table.from_pylist([{k: v for k, v in r.items() if k not in gone} for r in rows]), table
    )


def copy_keys(folder: Path, source: int, other: int) -> None:
    keys = pq.read_table(folder / f"{source:05d}.parquet")["key"].to_pylist()
    write_pool(folder, {other: len(keys) - 1})
    change(folder / f"{other:05d}.parquet", key=keys)


@pytest.mark.parametrize("md5", [True, False])
def test_download_without_sha256(tmp_path: Path, md5: bool) -> None:
    folder = write_pool(tmp_path / "p", {0: 2})
    change(folder / "00000.parquet", sha256=None, **({"md5": ["0" * 32] * 3} if md5 else {}))
    assert group(folder, tmp_path, 1).went_out == 2
    assert read_parquet(tmp_path / "out/00000.parquet")["sha256"].to_pylist() == [None, None]


def test_hash_of_a_download_is_none_of_the_image(tmp_path: Path) -> None:
    """The second image was encoded anew; what the server sent is known by its own name."""
    folder = write_pool(tmp_path / "p", {0: 2, 1: 1}, failed=0)
    own = pq.read_table(folder / "00000.parquet")["sha256"].to_pylist()
    change(folder / "00000.parquet", sha256=[own[0], "e" * 64])
    group(folder, tmp_path, 2)
    table = read_parquet(tmp_path / "out/00000.parquet")
    third = pq.read_table(folder / "00001.parquet")["sha256"].to_pylist()
    assert table["sha256"].to_pylist() == [None, None, *third]
    assert table["sha256_of_download"].to_pylist() == [own[0], "e" * 64, None]


def test_uid_of_datacomp_and_numbers_of_eight_digits(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "p", {0: 2}, failed=0)
    for file in list(folder.iterdir()):
        file.rename(folder / f"000{file.name}")
    uids = [f"{i:032x}" for i in (7, 8)]
    change(folder / "00000000.parquet", uid=uids)
    pool = FolderPool(folder="p", tars=1, digits=8, shards=1, samples=2)
    assert pool.word(0, 0) == "data:p/{00000000..00000000}.tar"
    external_pool.write_group("web", tars_of([pool.word(0, 0)], tmp_path), tmp_path / "o.parquet")
    assert read_parquet(tmp_path / "o.parquet")["uid"].to_pylist() == uids
    assert take_stock({"web": pool}, tmp_path)["web"]["tars"] == 1
    with pytest.raises(ClipshiftError, match=r"8 digits \(00000000\.tar\); add `digits: 8`"):
        take_stock({"web": pool.model_copy(update={"digits": 5})}, tmp_path)


def test_tars_without_any_success_are_counted(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "p", {0: 0, 1: 0}, failed=2)
    counts = group(folder, tmp_path, 2)
    assert (counts.came_in, counts.went_out, counts.rejected.total()) == (4, 0, 4)
    assert len(read_parquet(tmp_path / "out/00000.parquet")) == 0


def test_keys_of_two_groups_name_both_tars(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "p", {0: 3, 1: 1, 2: 3}, failed=0)
    copy_keys(folder, 0, 2)
    for number, tars in enumerate(([0, 1], [2])):
        paths = [folder / f"{i:05d}.tar" for i in tars]
        external_pool.write_group("web", paths, tmp_path / f"{number:05d}.parquet")
    counts = [tmp_path / f"{i:05d}.json" for i in range(2)]
    with pytest.raises(ClipshiftError, match=r"00000\.tar of \S+ and 00002\.tar of"):
        sum_shards("web", counts, tmp_path / "manifest.json")


def test_another_number_of_samples_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group(write_pool(tmp_path / "p", {0: 3}), tmp_path, 1)
    for samples, said in ((3, ""), (8, "pools.web.samples: 8 configured, 3 found, 1 left out\n")):
        sum_shards("web", [tmp_path / "out/00000.json"], tmp_path / "m.json", samples)
        assert capsys.readouterr().err == (said and f"clipshift: note: {said}")
        assert read_json(tmp_path / "m.json").get("samples_configured") == (8 if said else None)


def test_tars_beyond_those_configured_are_said(tmp_path: Path) -> None:
    write_pool(tmp_path / "web", dict.fromkeys(range(4), 2))
    pool = FolderPool(folder="web", tars=2, shards=1, samples=8)
    found = take_stock({"web": pool}, tmp_path)["web"]
    assert found["numbers_beyond"] == ["00002", "00003"]
    assert "2 tars of" in found["said"][0]
    assert "00002, 00003" in found["said"][0]


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


@pytest.mark.parametrize(
    ("label", "right"),
    [("1", 1), ("1.0", 1), ("²", None), ("-1", None), ("1.5", None), ("", None), ("\u0661", None)],
)
def test_labels_are_whole_numbers(tmp_path: Path, label: str, right: int | None) -> None:
    write_set(tmp_path / "set", [0, label], tars=1)
    spec = set_in(tmp_path, samples=2)
    if right is None:
        with pytest.raises(ClipshiftError, match="expected a class from 0 to 1"):
            external_set.build("pets", spec, tmp_path / "out")
    else:
        external_set.build("pets", spec, tmp_path / "out")
        assert read_json(tmp_path / "out/manifest.json")["classes"] == {"cat": 1, "dog": 1}


@pytest.mark.parametrize("text", ["\ufeffcat\r\ndog\r\n", "cat\ndog\n\n\n", "cat \ndog"])
def test_class_names_of_any_editor(tmp_path: Path, text: str) -> None:
    write_set(tmp_path / "set", [0, 1, 1, 0, 1])
    (tmp_path / "set/classnames.txt").write_bytes(text.encode())
    assert external_set.class_names(set_in(tmp_path), tmp_path / "set") == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("café\ndog".encode("latin-1"), "line 1: not UTF-8"), (b"cat\n\ndog", "line 2: no name")],
)
def test_class_names_that_would_be_wrong(tmp_path: Path, text: bytes, message: str) -> None:
    write_set(tmp_path / "set", [0, 1, 1, 0, 1])
    (tmp_path / "set/classnames.txt").write_bytes(text)
    with pytest.raises(ClipshiftError, match=message):
        external_set.class_names(set_in(tmp_path), tmp_path / "set")


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
        "classnames.txt is missing; a set of CLIP_benchmark's has it",
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


@pytest.mark.parametrize("number", [b"1\xff", b"\xd9\xa1", b"9" * 5000, b"9999999", b"0", b"-1"])
def test_number_of_tars_that_is_none(number: bytes, tmp_path: Path) -> None:
    write_set(tmp_path / "set", [0, 1])
    (tmp_path / "set/test/nshards.txt").write_bytes(number)
    with pytest.raises(ClipshiftError, match=r"nshards\.txt: expected the number of tars"):
        tars_of(["data:set/test"], tmp_path)


@pytest.mark.parametrize("label", [b"9" * 5000, "\u00b2".encode(), b"\xff", b""])
def test_labels_of_a_set_that_are_none(label: bytes, tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [Sample("a", {"jpg": photo(0), "cls": label})])
    (tmp_path / "classnames.txt").write_text("cat\n")
    write_parquet(tmp_path / "samples.parquet", pa.table({"key": ["a"], "class_name": ["cat"]}))
    with pytest.raises(ClipshiftError, match=r"0\.tar: sample 'a' has the label"):
        check_labels(tmp_path, tmp_path / "0.tar")


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


def test_keys_that_came_later_change_no_parameter_of_a_set() -> None:
    """What was made of a set in CLIP_benchmark's layout before there were formats stays."""
    assert set(SET.model_dump(exclude={"obtain"})) == {
        "folder", "samples", "split", "classes", "names", "role",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "val", "format": "image_folder"}, "`split` is a folder of CLIP_benchmark"),
        ({"class_names": "x.txt"}, "add `format: any`"),
    ],
)
def test_keys_of_another_format_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FolderSet(folder="x", classes=2, samples=2, **keys)
