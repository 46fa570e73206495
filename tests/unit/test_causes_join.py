"""ImageNet-Captions as released, joined to a folder of images; img2dataset's captions."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.captions.fields import pool_fields
from clipshift.datasets.captions.join import entries, report, shard
from clipshift.datasets.external_check import take_stock
from clipshift.datasets.tars import read_tar
from clipshift.study.config.captions import Fields
from clipshift.study.config.folders import CaptionedPool
from tests.conftest import photo
from tests.folder_case import write_pool

LISTED: list[dict[str, Any]] = [
    {"filename": "n01_1.JPEG", "wnid": "n01", "title": "A tench", "description": "caught\nhere",
     "tags": ["fish", "tench"]},
    {"filename": "n02_7.JPEG", "wnid": "n02", "title": "", "description": None, "tags": []},
    {"filename": "n01_1.JPEG", "wnid": "n01", "title": "again", "description": "", "tags": []},
    {"filename": "n01_9.JPEG", "wnid": "n01", "title": "gone", "description": "", "tags": []},
    {"filename": "n09_1.JPEG", "wnid": "n09", "title": "no class", "description": "", "tags": []},
    {"filename": "n02_8.JPEG", "wnid": "n02", "title": "É", "description": "", "tags": ["a"]},
    {"wnid": "n02", "title": "no file", "description": "", "tags": ["a"]},
]  # fmt: skip


@pytest.fixture
def release(tmp_path: Path) -> tuple[Path, Path]:
    """The JSON and a folder of three classes, one of them without captions."""
    captions, images = tmp_path / "imagenet_captions.json", tmp_path / "train"
    captions.write_text(json.dumps(LISTED))
    for name in ("n01/n01_1", "n01/n01_2", "n02/n02_7", "n02/n02_8", "n03/n03_1"):
        path = images / f"{name}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(len(name)))
    return captions, images


def shards(release: tuple[Path, Path], folder: Path, count: int) -> list[Path]:
    accounts = []
    for number in range(count):
        out = folder / f"{number:05d}.tar"
        fields = folder / f"fields/{number:05d}.parquet"
        shard("incaps", *release, 3, number, count, out, fields)
        accounts.append(out.with_suffix(".json"))
    return accounts


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_in_both_becomes_the_pool(
    release: tuple[Path, Path], tmp_path: Path, count: int
) -> None:
    accounts = shards(release, tmp_path / "pool", count)
    samples = {s.key: s for a in accounts for s in read_tar(a.with_suffix(".tar"))}
    assert sorted(samples) == ["n01_1", "n02_7", "n02_8"]
    assert samples["n01_1"].image == (release[1] / "n01/n01_1.JPEG").read_bytes()
    assert samples["n01_1"].parts["txt"].decode() == "A tench, caught\nhere, fish, tench"
    texts = {
        r["key"]: r
        for a in accounts
        for r in read_parquet(a.parent / "fields" / f"{a.stem}.parquet").to_pylist()
    }
    assert texts["n01_1"] == {
        "key": "n01_1", "title": "A tench", "description": "caught\nhere", "tags": "fish, tench",
        "label": 0,
    }  # fmt: skip
    assert texts["n02_8"]["label"] == 1 and texts["n02_7"]["tags"] == ""
    table = [r for a in accounts for r in read_parquet(a.with_suffix(".parquet")).to_pylist()]
    assert {r["key"]: r["class_name"] for r in table} == {
        "n01_1": "n01", "n02_7": "n02", "n02_8": "n02",
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 4])
def test_every_entry_is_counted_once(
    release: tuple[Path, Path], tmp_path: Path, count: int
) -> None:
    report(shards(release, tmp_path / "pool", count), tmp_path / "report.json")
    found = read_json(tmp_path / "report.json")
    assert (found["account"]["in"], found["account"]["out"]) == (7, 3)
    assert found["account"]["rejected"] == {
        "listed twice": 1, "no file name or class": 1, "no such class folder": 1,
        "image missing": 1,
    }  # fmt: skip
    assert found["classes_without_pictures"] == ["n03"]
    assert found["pictures_per_class"] == {"min": 1, "mean": 1.5, "max": 2}


def test_labels_need_every_class_folder(release: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="3 class folders, expected 1000"):
        shard("x", *release, 1000, 0, 1, tmp_path / "a.tar", tmp_path / "f.parquet")


def test_entries_are_streamed_and_absent_keys_are_none(release: tuple[Path, Path]) -> None:
    listed = list(entries(release[0]))
    assert len(listed) == len(LISTED) and listed[-1]["filename"] is None
    release[0].write_text('{"no": "list"}')
    with pytest.raises(ClipshiftError, match="is no list of"):
        list(entries(release[0]))


def test_the_inventory_knows_such_a_pool(release: tuple[Path, Path], tmp_path: Path) -> None:
    block = CaptionedPool(
        folder="train", captions="imagenet_captions.json", classes=3, shards=2, samples=5
    )
    assert take_stock({"incaps": block}, tmp_path)["incaps"]["classes"] == 3
    wrong = block.model_copy(update={"classes": 4, "captions": "none.json"})
    with pytest.raises(ClipshiftError) as error:
        take_stock({"incaps": wrong}, tmp_path)
    assert "none.json" in str(error.value) and "3 class folders, expected 4" in str(error.value)


def test_captions_of_img2datasets_tables(tmp_path: Path) -> None:
    folder = write_pool(tmp_path / "web", {0: 3, 1: 2})
    for number in (0, 1):
        path = folder / f"{number:05d}.parquet"
        rows = pq.read_table(path).to_pylist()
        for i, r in enumerate(rows):
            r |= {"title": f"t{i}", "usertags": ["a", "b"] if i else None}
        pq.write_table(type(pq.read_table(path)).from_pylist(rows), path)
    fields = Fields(title="{title}", tags="{usertags}")
    tars = f"{folder}/{{00000..00002}}.tar"  # the last does not exist
    pool_fields(fields, tars, tmp_path / "out.parquet")
    rows = read_parquet(tmp_path / "out.parquet").to_pylist()
    assert len(rows) == 5
    first, second, *_ = rows
    assert (first["key"], first["title"], first["tags"]) == ("000000000", "t0", "")
    assert (second["tags"], second["description"], second["label"]) == ("a, b", "", None)
    with pytest.raises(ClipshiftError, match=r"lacks the columns \['nothing'\]"):
        pool_fields(Fields(title="{nothing}"), tars, tmp_path / "out.parquet")


def test_texts_of_yfcc_are_decoded(tmp_path: Path) -> None:
    """A blank is `+`, the rest `%xx` of UTF-8; the commas between tags are not encoded."""
    folder = write_pool(tmp_path / "web", {0: 2})
    rows = pq.read_table(folder / "00000.parquet").to_pylist()
    rows[0] |= {"title": "red+fox%21", "usertags": "red+fox,caf%C3%A9,1%2B1,100%25"}
    rows[1] |= {"title": None, "usertags": None}
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    fields = Fields(title="{title}", tags="{usertags}", url_encoded=True)
    found = []
    for one in (fields, fields.model_copy(update={"url_encoded": False})):
        pool_fields(one, f"{folder}/{{00000..00000}}.tar", tmp_path / "out.parquet")
        found += read_parquet(tmp_path / "out.parquet").to_pylist()
    assert found[0]["title"] == "red fox!"
    assert found[0]["tags"] == "red fox,caf\N{LATIN SMALL LETTER E WITH ACUTE},1+1,100%"
    assert (found[1]["title"], found[1]["tags"]) == ("", "")
    assert (found[2]["title"], found[2]["tags"]) == ("red+fox%21", rows[0]["usertags"])
