"""Pools and sets of the user's in any format, copied into shards of the project's layout."""

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, sha256_bytes
from clipshift.datasets import converted, external_check
from clipshift.datasets.conversion import safe_key
from clipshift.datasets.tars import read_tar
from clipshift.study.config.folders import ConvertedPool, FolderSet
from tests.conftest import photo


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSHIFT_DATA", str(tmp_path))
    return tmp_path


def photos(folder: Path, classes: Mapping[str, int], suffix: str = "jpg") -> Path:
    """Class folders with so many images."""
    for seed, (name, count) in enumerate(classes.items()):
        for i in range(count):
            file = folder / name / f"a {i}.x.{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(photo(100 * seed + i))
    return folder


def pool(folder: Path, shards: int = 1, **keys: Any) -> list[Any]:
    """The shards' samples, rows and counts."""
    spec = ConvertedPool(folder="web", samples=1, shards=shards, **keys)
    for i in range(shards):
        converted.pool_shard("web", spec, i, folder / f"out/{i:05d}.tar")
    tars = sorted((folder / "out").glob("*.tar"))
    return [
        [s for tar in tars for s in read_tar(tar)],
        [r for t in tars for r in read_parquet(t.with_suffix(".parquet")).to_pylist()],
        [read_json(tar.with_suffix(".json")) for tar in tars],
    ]


def labelled(place: Path, **keys: Any) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Class name and label of each sample, and the manifest."""
    spec = FolderSet(**{"folder": "val", "format": "any", "samples": 4, "classes": 2} | keys)
    converted.labelled_set("val", spec, place / "set")
    names = (place / "set/classnames.txt").read_text().splitlines()
    labels = [int(s.parts["cls"]) for s in read_tar(place / "set/test/0.tar")]
    rows = read_parquet(place / "set/samples.parquet").to_pylist()
    assert [row["class_name"] for row in rows] == [names[label] for label in labels]
    return [(names[i], i) for i in labels], read_json(place / "set/manifest.json")


def test_folder_of_photos(data: Path) -> None:
    photos(data / "web", {"cat": 3, "hot dog": 2})
    (data / "web/cat/notes.txt").write_text("x")
    (data / "web/cat/empty.png").write_bytes(b"")
    samples, rows, counts = pool(data, shards=3, template="a photo of a {class}")
    assert len({s.key for s in samples}) == len(samples) == 5
    assert [s.key for s in samples] == [r["key"] for r in rows]
    assert all(c.isalnum() or c in "_-" for s in samples for c in s.key)
    by_place = {row["locator"]: row for row in rows}
    assert set(by_place) == {
        *(f"web/cat/a {i}.x.jpg" for i in range(3)), *(f"web/hot dog/a {i}.x.jpg" for i in range(2))
    }  # fmt: skip
    row = by_place["web/hot dog/a 1.x.jpg"]
    assert row["sha256"] == sha256_bytes(photo(101))
    assert (row["caption"], row["class_name"]) == ("a photo of a hot dog", "hot dog")
    assert {s.parts["txt"].decode() for s in samples} == {r["caption"] for r in rows}
    accounts = [c["account"] for c in counts]
    assert sum(a["in"] for a in accounts) == 6
    assert [a["rejected"] for a in accounts if a["rejected"]] == [{"empty file": 1}]
    assert counts[0]["not_read"] == {"txt": 1}


def test_a_new_image_changes_one_shard(data: Path) -> None:
    photos(data / "web", {"cat": 8})
    pool(data, shards=4)
    before = {f.name: f.read_bytes() for f in (data / "out").glob("*.tar")}
    (data / "web/cat/one more.jpg").write_bytes(photo(9))
    pool(data, shards=4)
    assert sum(before[f.name] != f.read_bytes() for f in (data / "out").glob("*.tar")) == 1


def test_two_keys_stay_two() -> None:
    places = [("web", "a/b.jpg"), ("web", "a_b.jpg"), ("web", "a b.jpg"), ("val", "a/b.jpg")]
    assert len({safe_key(*place) for place in places}) == len(places)
    assert safe_key("web", "000000012") == "000000012"
    assert safe_key("web", "a.b/c.jpg").startswith("a_b_c-")


def test_table_with_captions_of_a_column(data: Path) -> None:
    """`folder` is a file."""
    photos(data / "images", {"x": 2})
    lines = ["path,TEXT", "images/x/a 0.x.jpg,one", "images/x/a 1.x.jpg,two", "images/no.jpg,three"]
    (data / "web.csv").write_text("\n".join(lines))
    spec = ConvertedPool(
        folder="web.csv", samples=1, shards=1, columns={"caption": "TEXT", "image": "path"}
    )
    converted.pool_shard("web", spec, 0, data / "out/00000.tar")
    rows = read_parquet(data / "out/00000.parquet").to_pylist()
    assert [row["caption"] for row in rows] == ["one", "two"]
    assert read_json(data / "out/00000.json")["account"]["rejected"] == {"image file is missing": 1}


def test_webdataset_of_equal_keys_names_both_tars(data: Path) -> None:
    for name in ("a", "b"):
        with tarfile.open(data / f"{name}.tar", "w") as tar:
            for suffix, content in (("jpg", photo(1)), ("txt", name.encode())):
                info = tarfile.TarInfo(f"0001.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        (data / "web").mkdir(exist_ok=True)
        shutil.move(data / f"{name}.tar", data / f"web/{name}.tar")
    with pytest.raises(ClipshiftError, match=r"a\.tar and b\.tar share the key '0001'.*unit/key"):
        pool(data)
    _, rows, _ = pool(data, columns={"key": "unit/key"})
    assert [row["caption"] for row in rows] == ["a", "b"]
    _, rows, _ = pool(data, units="b*")
    assert [row["caption"] for row in rows] == ["b"]
    with pytest.raises(ClipshiftError, match="none of its 2 units fits 'train-"):
        pool(data, units="train-*")


def test_set_of_wordnet_ids(data: Path) -> None:
    photos(data / "val", {"n01440764": 2, "n01443537": 2}, "JPEG")
    found, manifest = labelled(data, names="openai_imagenet")
    assert found == [("tench", 0)] * 2 + [("goldfish", 1)] * 2
    assert manifest["classes"] == {"tench": 2, "goldfish": 2}


def test_set_of_numeric_folders_is_in_the_order_of_numbers(data: Path) -> None:
    photos(data / "val", {"0": 1, "10": 1, "2": 1})
    (data / "names.txt").write_text("\ufefftench\r\nshark\r\nhen\r\n", encoding="utf-8")
    found, _ = labelled(data, samples=3, classes=3, class_names="names.txt")
    assert sorted(found) == [("hen", 2), ("shark", 1), ("tench", 0)]
    rows = read_parquet(data / "set/samples.parquet").to_pylist()
    assert {r["locator"].split("/")[1]: r["class_name"] for r in rows} == {
        "0": "tench", "2": "shark", "10": "hen",
    }  # fmt: skip


def test_set_of_hugging_face(data: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {}}
    rows = [{"image": {"bytes": photo(i), "path": None}, "label": i % 2} for i in range(4)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    (data / "val").mkdir()
    pq.write_table(table, data / "val/test-00000-of-00001.parquet")
    found, _ = labelled(data)
    assert found == [("cat", 0), ("dog", 1)] * 2


def test_labels_of_a_table(data: Path) -> None:
    """The classes are the labels, in natural order; numbers may be floats."""
    photos(data / "flat", {".": 4})
    lines = ["filename,label", *(f"flat/a {i}.x.jpg,{(10.0, 9.0)[i % 2]}" for i in range(4))]
    (data / "val.csv").write_text("\n".join(lines))
    found, _ = labelled(data, folder="val.csv")
    assert [label for _, label in found] == [1, 0, 1, 0]
    (data / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(ClipshiftError, match=r"a 0\.x\.jpg: the label '10(\.0)?' names no class"):
        labelled(data, folder="val.csv", class_names="names.txt")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": 3}, "expected 3 classes, found 2"),
        ({"samples": 5}, r"expected 5 samples \(left out: {'empty file': 1}\), found 4"),
        ({"names": "openai_imagenet"}, "'cat' is no such id. Give their names"),
    ],
)
def test_set_that_is_not_as_configured(data: Path, keys: dict[str, Any], message: str) -> None:
    photos(data / "val", {"cat": 2, "dog": 2})
    (data / "val/dog/empty.jpg").write_bytes(b"")
    with pytest.raises(ClipshiftError, match=message):
        labelled(data, **keys)


def test_part_of_every_class_and_what_it_lacks(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(data / "val", {"cat": 10, "dog": 5, "eel": 1})
    found, manifest = labelled(data, part=(0.0, 0.4), exclude=["dog/a 0*"], classes=3, samples=6)
    assert found == [("cat", 0)] * 4 + [("dog", 1)] * 2
    assert manifest["account"]["rejected"] == {"excluded": 1, "in another part": 9}
    assert manifest["classes"] == {"cat": 4, "dog": 2, "eel": 0}
    said = capsys.readouterr().err
    assert "part of each class: cat 4 of 10, dog 2 of 4, eel 0 of 1" in said
    assert "no sample of the classes eel" in said


def test_all_faults_are_one_message_before_anything_runs(data: Path) -> None:
    photos(data / "photos", {"cat": 2, "dog": 1})
    photos(data / "val", {"cat": 1, "dog": 1})
    (data / "broken/cat").mkdir(parents=True)
    (data / "broken/cat/x.jpg").write_bytes(b"<html>")
    (data / "list.csv").write_text("image,text\nphotos/cat/a 0.x.jpg,one\n")
    pools = {
        "near": ConvertedPool(folder="photo", samples=3, shards=1),
        "small": ConvertedPool(folder="photos", samples=3, shards=1),
        "column": ConvertedPool(folder="list.csv", samples=1, shards=1, columns={"caption": "TXT"}),
        "broken": ConvertedPool(folder="broken", samples=1, shards=1),
    }
    sets = {
        "plain": FolderSet(folder="val", samples=2, classes=2),
        "more": FolderSet(folder="val", format="image_folder", samples=3, classes=5),
    }
    with pytest.raises(ClipshiftError) as error:
        external_check.take_stock(pools | sets, data, {"small": {"splits.far": 10}})
    message = str(error.value)
    for expected in (
        "photo  (pools.near.folder)\n    there is no such folder or file; did you mean photos?",
        "splits.far keeps 10, of 3 samples",
        "(pools.column.folder)",
        "'TXT'",
        "none of the first 1 samples is an image",
        "it looks like image_folder (",
        "): add `format: any` and the images are copied",
        "2 classes, expected 5 (its key `classes`): cat, dog",
        "2 samples, expected 3 (its key `samples`)",
    ):
        assert expected in message, message


def test_what_people_should_know_is_said(data: Path) -> None:
    photos(data / "web", {"cat": 2, "dog": 1})
    block = ConvertedPool(folder="web", samples=30, shards=1)
    entry = external_check.take_stock({"web": block}, data)["web"]
    assert entry["format"] == "image_folder"
    assert any("3 samples, 30 configured" in line for line in entry["said"])
    assert any("no captions" in line for line in entry["said"])
    lines = external_check.described({"web": entry})
    assert lines[0] == "pools.web: web, image_folder, 3 samples"
