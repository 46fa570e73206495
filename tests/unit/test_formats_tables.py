"""Formats that are tables, against pandas, open_clip, pycocotools and torchvision."""

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from clipshift.core.csv_file import QUOTES
from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats import open_dataset, recognise
from tests.conftest import photo
from tests.formats_case import files, read, tar

ODD = ["plain", 'a "quoted" word', "two\nlines", "comma, and\ttab", "semicolon; gr\u00fcn"]


def captioned(tmp_path: Path, name: str, **options: Any) -> tuple[Path, pd.DataFrame]:
    files(tmp_path, *(f"img/{i}.jpg" for i in range(len(ODD))))
    frame = pd.DataFrame({"filepath": [f"img/{i}.jpg" for i in range(len(ODD))], "title": ODD})
    frame.to_csv(tmp_path / name, index=False, **options)
    return tmp_path / name, frame


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.csv", {}), ("x.tsv", {"sep": "\t"}), ("x.csv", {"sep": ";"}), ("x.csv", {"sep": "\t"}),
        ("x.csv", {"encoding": "utf-8-sig"}), ("x.csv", {"lineterminator": "\r\n"}),
        ("x.csv", {"encoding": "utf-16"}), ("x.csv.gz", {}), ("x.csv", {"quoting": 1}),
    ],
)  # fmt: skip
def test_csv_as_pandas_and_open_clip_read_it(
    tmp_path: Path, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip_train.data import CsvDataset

    path, frame = captioned(tmp_path, name, **options)
    data, records, rejected = read(path)
    assert data.name == "table"
    assert [(r.key, r.caption) for r in records] == list(zip(frame.filepath, ODD, strict=True))
    assert rejected == {}
    assert data.said == ["image = column 'filepath'", "caption = column 'title'"]
    if options.get("encoding", "utf-8") == "utf-8":
        theirs = CsvDataset(
            str(path), np.asarray, "filepath", "title", sep=options.get("sep", ","),
            tokenizer=lambda texts: texts,
        )  # fmt: skip
        monkeypatch.chdir(tmp_path)
        for i, record in enumerate(records):
            image, caption = theirs[i]
            assert caption == record.caption
            assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(record.place.read()))))


def test_paths_of_every_kind_and_missing_files(tmp_path: Path) -> None:
    files(tmp_path, "a b.jpg", "1.jpg", "sub/2.jpg", "3.jpg")
    rows = [
        f"{tmp_path}/1.jpg,absolute", f"file://{tmp_path}/a%20b.jpg,file", "sub\\2.jpg,windows",
        "no.jpg,missing", "http://x/1.jpg,url", "sub,folder", ",none", "3.jpg,x", "3.jpg,again",
        "short", "1.jpg,too,long",
    ]  # fmt: skip
    (tmp_path / "x.csv").write_text("\n".join(["Image_Path,Caption", *rows]))
    _, records, rejected = read(tmp_path / "x.csv")
    assert [r.caption for r in records] == ["absolute", "file", "windows", "x"]
    assert rejected == {
        "no.jpg": "image file is missing", "http://x/1.jpg": "a URL, not a file",
        "sub": "no regular file", "x.csv#row 7": "row names no image file",
        "3.jpg": "key occurs twice", "x.csv#row 10": "row has not the 2 fields of the header",
        "x.csv#row 11": "row has not the 2 fields of the header",
    }  # fmt: skip


def test_named_columns_and_keys(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "x.csv").write_text("id,where,what,class\n007,1.jpg,cat,3\n,2.jpg,dog,4\n")
    with pytest.raises(ClipshiftError, match=r"which column.*'where'"):
        read(tmp_path / "x.csv")
    with pytest.raises(ClipshiftError, match="no column 'wher'"):
        read(tmp_path / "x.csv", image="wher")
    data, records, rejected = read(tmp_path / "x.csv", image="where", key="id", caption="what")
    assert [(r.key, r.caption, r.label) for r in records] == [("007", "cat", "3")]
    assert rejected == {"2.jpg": "no key"}
    assert data.said == ["label = column 'class'"]


def test_table_without_header(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "x.tsv").write_text("1.jpg\ta cat\n2.jpg\ta dog\n")
    data, records, _ = read(tmp_path / "x.tsv")
    assert [(r.key, r.caption) for r in records] == [("1.jpg", "a cat"), ("2.jpg", "a dog")]
    assert "no header" in data.said[0]


def test_jsonl_and_parquet(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg", "2.jpg")
    rows = [
        {"file_name": "1.jpg", "text": "two\nlines", "label": 3.0, "url": "http://x/1"},
        {"file_name": "2.jpg", "text": None, "label": float("nan"), "url": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    lines = [*map(json.dumps, rows), "", "{", "[]", '{"file_name": "1.jpg", "label": [1, 2]}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    for name in ("x.parquet", "x.jsonl"):
        data, (first, second), rejected = read(tmp_path / name)
        assert data.name == "table"
        assert (first.caption, first.label, first.url) == ("two\nlines", "3", "http://x/1")
        assert (second.caption, second.label) == (None, None)
    assert rejected == {
        "x.jsonl#row 3": "row is not JSON", "x.jsonl#row 4": "row is no JSON object",
        "x.jsonl#row 5": "several labels",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"filepath,filepath\n1.jpg,x\n", "two columns are called 'filepath'"),
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n", "web page"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes, error: str) -> None:
    files(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ClipshiftError, match=error):
        read(tmp_path / "x.csv")


def test_rows_of_csv_that_are_none_cost_no_other(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    text = b'filepath,title\n1.jpg,"open\n2.jpg,caf\xe9\n3.jpg,"a" b\n'
    (tmp_path / "x.csv").write_bytes(text)
    _, records, rejected = read(tmp_path / "x.csv")
    assert [(r.key, r.caption) for r in records] == [("2.jpg", "caf\\xe9")]
    assert rejected == {"x.csv#row 1": QUOTES, "x.csv#row 3": QUOTES}


def test_array_of_json_and_captions_txt(tmp_path: Path) -> None:
    files(tmp_path, "1.jpg", "2.jpg")
    rows = [{"image": "1.jpg", "caption": ["a", "b"]}, {"image": "2.jpg", "caption": "c"}, 3]
    (tmp_path / "x.json").write_text(json.dumps(rows, indent=1))
    _, records, rejected = read(tmp_path / "x.json")
    assert [(r.key, r.caption) for r in records] == [("1.jpg", "a"), ("2.jpg", "c")]
    assert rejected == {"x.json#row 3": "row is no JSON object"}
    (tmp_path / "captions.txt").write_text("image,caption\n1.jpg,a\n1.jpg,b\n")  # Flickr8k
    _, records, rejected = read(tmp_path / "captions.txt")
    assert [(r.key, r.caption) for r in records] == [("1.jpg", "a")]
    assert rejected == {"1.jpg": "key occurs twice"}


def test_wide_and_deep_tables_end_soon(tmp_path: Path) -> None:
    """A header of 100,000 names is one look at each; rows nested deeply or unclear are none."""
    files(tmp_path, "1.jpg")
    names = ["image", *(f"c{i}" for i in range(100_000))]
    (tmp_path / "x.csv").write_text(f"{','.join(names)}\n1.jpg{',' * 100_000}\n")
    begin = time.process_time()
    _, records, _ = read(tmp_path / "x.csv")
    assert [r.key for r in records] == ["1.jpg"] and time.process_time() - begin < 10
    deep = '{"image": "1.jpg", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    lines = ['{"image": "1.jpg"}', deep, '{"image": "1.jpg", "image": "2.jpg"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    _, records, rejected = read(tmp_path / "x.jsonl")
    assert [r.key for r in records] == ["1.jpg"]
    assert rejected == {f"x.jsonl#row {i}": "row is not JSON" for i in (2, 3)}


def test_lists_of_urls_say_how_they_are_downloaded(tmp_path: Path) -> None:
    rows = [{"URL": "http://x/1.jpg", "TEXT": "IMG_1.jpg", "SAMPLE_ID": 1}]
    (tmp_path / "laion").mkdir()
    for i in range(2):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"laion/part-{i}.parquet")
    (tmp_path / "laion/README.md").write_text("")
    (tmp_path / "cc3m.tsv").write_text("a cat\thttp://x/1.jpg\n")
    (tmp_path / "x.csv").write_text("image_url,caption\nhttp://x/1.jpg,a cat\n")
    remedies = [
        ("laion", "url_column: URL` and `caption_column: TEXT"),
        ("cc3m.tsv", "url_column: 1`"), ("x.csv", "url_column: image_url"),
    ]  # fmt: skip
    for name, remedy in remedies:
        data = open_dataset(tmp_path / name)
        assert data.name == "url_list"
        with pytest.raises(ClipshiftError, match=rf"pools\.NAME\.urls.*{remedy}"):
            list(data.records(data.units()[0]))
    data = open_dataset(tmp_path / "laion")
    assert [u.name for u in data.units()] == ["part-0.parquet", "part-1.parquet"]
    assert data.left_out == {"md": 1}
    # A table of files with a column of URLs is a table.
    files(tmp_path, "1.jpg")
    (tmp_path / "both.csv").write_text("file,url\n1.jpg,http://x/1.jpg\n")
    assert read(tmp_path / "both.csv")[1][0].url == "http://x/1.jpg"


def hub_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": photo(i), "path": f"{i}.jpg"}, "label": i % 2, "text": f"t{i}"}
        for i in range(start, start + count)
    ]


def class_label(names: list[str]) -> dict[bytes, bytes]:
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_hugging_face_parquet(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(2):
        table = pa.Table.from_pylist(hub_rows(3, 3 * i))
        table = table.replace_schema_metadata(class_label(["cat", "dog"]))
        name = f"data/train-{i:05d}-of-00002.parquet"
        pq.write_table(table, tmp_path / name, row_group_size=2)
    (tmp_path / "README.md").write_text("# x")
    data, records, rejected = read(tmp_path)
    assert data.name == "huggingface"
    assert [(u.name, u.samples) for u in data.units()] == [
        ("data/train-00000-of-00002.parquet", 3), ("data/train-00001-of-00002.parquet", 3),
    ]  # fmt: skip
    theirs = pd.concat(map(pd.read_parquet, sorted((tmp_path / "data").glob("*"))))
    assert [(r.place.read(), r.label, r.caption) for r in records] == [
        (row.image["bytes"], str(row.label), row.text) for row in theirs.itertuples()
    ]
    assert [r.key for r in records][2:4] == ["train-00000-of-00002-2", "train-00001-of-00002-0"]
    assert str(records[1].place).endswith("train-00000-of-00002.parquet#row 1")
    assert data.classes() == ["cat", "dog"]
    assert data.left_out == {"md": 1}
    assert rejected == {}
    one, records, _ = read(tmp_path / "data/train-00001-of-00002.parquet", key="text")
    assert (one.name, [r.key for r in records]) == ("huggingface", ["t3", "t4", "t5"])


README = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '2': late
          '1': dog
---
# text
"""


def test_classes_of_hugging_face_are_found_in_every_description(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    for name, text, expected in [
        ("README.md", README, ["cat", "dog", "late"]),
        ("dataset_infos.json", json.dumps({"default": {"features": features}}), ["cat", "dog"]),
        ("dataset_info.json", json.dumps({"features": features}), ["cat", "dog"]),
    ]:
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(hub_rows(2)), folder / "0000.parquet")
        assert open_dataset(folder).classes() is None
        (folder / name).write_text(text)
        assert open_dataset(folder).classes() == expected
    two = {
        "a": {"features": features},
        "b": {"features": {"label": features["label"] | {"names": ["x"]}}},
    }
    (folder / "dataset_info.json").write_text(json.dumps(two))
    with pytest.raises(ClipshiftError, match="different classes of 'label'"):
        open_dataset(folder).classes()


def test_hugging_face_odd_rows(tmp_path: Path) -> None:
    files(tmp_path, "here.jpg")
    rows = [
        {"image": {"bytes": photo(1), "path": None}, "label": -1},
        {"image": {"bytes": None, "path": "here.jpg"}, "label": 1},
        {"image": {"bytes": None, "path": "gone.jpg"}, "label": 1},
        {"image": None, "label": 0}, {"image": {"bytes": photo(2), "path": "x"}, "label": 7},
        {"image": {"bytes": photo(3), "path": "x"}, "label": None},
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows).replace_schema_metadata(class_label(["cat", "dog"]))
    pq.write_table(table, tmp_path / "x.parquet")
    data, records, rejected = read(tmp_path, "huggingface")
    assert [(r.key, r.label) for r in records] == [("x-0", None), ("x-1", "1"), ("x-5", None)]
    assert records[1].place.read() == (tmp_path / "here.jpg").read_bytes()
    assert rejected == {
        "x-2": "image file is missing", "x-3": "no image in the row",
        "x-4": "label is none of the classes",
    }  # fmt: skip
    assert data.left_out == {"jpg": 1}


def test_hugging_face_columns_that_are_not_certain(tmp_path: Path) -> None:
    rows = [{"left": photo(1), "right": photo(2), "captions": ["a", "b"], "id": 1}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    with pytest.raises(ClipshiftError, match=r"which column.*\['left', 'right'\]"):
        read(tmp_path)
    data, (record,), _ = read(tmp_path, image="right", key="id")
    assert (record.key, record.caption, record.place.read()) == ("1", "a", photo(2))
    assert "of the captions in 'captions' the first" in data.said
    with pytest.raises(ClipshiftError, match="'id' with bytes"):
        read(tmp_path, image="id")


def test_columns_of_bytes_are_images_by_name_or_content(tmp_path: Path) -> None:
    pq.write_table(pa.table({"URL": ["http://x/1"], "hash": [b"1234"]}), tmp_path / "urls.parquet")
    pq.write_table(pa.table({"photo": [None, photo(1)]}), tmp_path / "photos.parquet")
    assert open_dataset(tmp_path / "photos.parquet").name == "huggingface"
    assert recognise(tmp_path / "urls.parquet")[0].name != "huggingface"
    _, (record,), rejected = read(tmp_path / "photos.parquet")
    assert (record.key, record.place.read()) == ("photos-1", photo(1))
    assert rejected == {"photos-0": "no image in the row"}


def test_keys_of_files_with_one_name_hold_their_folder(tmp_path: Path) -> None:
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        pq.write_table(pa.Table.from_pylist(hub_rows(1)), tmp_path / split / "0000.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "numbers.parquet")
    data, records, _ = read(tmp_path, "huggingface")
    assert [r.key for r in records] == ["test/0000-0", "train/0000-0"]
    assert data.left_out == {"parquet without images": 1}


def save_to_disk(folder: Path, names: list[str]) -> Path:
    """As `datasets` writes it: streams of record batches, listed by `state.json`."""
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        table = pa.Table.from_pylist(hub_rows(2, 2 * i))
        table = table.replace_schema_metadata(class_label(["cat", "dog"]))
        with (
            pa.OSFile(str(folder / name), "wb") as out,
            pa.ipc.new_stream(out, table.schema) as writer,
        ):
            writer.write_table(table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": folder.name}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_save_to_disk(tmp_path: Path) -> None:
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    one = save_to_disk(tmp_path / "one", names)
    (one / "cache-1.arrow").write_bytes((one / names[0]).read_bytes())
    data, records, _ = read(one)
    assert (data.name, recognise(one)[1]) == ("huggingface", "a folder of save_to_disk")
    assert [r.key for r in records] == [f"{n[:-6]}-{i}" for n in names for i in range(2)]
    assert [r.place.read() for r in records] == [photo(i) for i in range(4)]
    assert data.classes() == ["cat", "dog"]
    assert data.left_out == {"arrow that state.json does not list": 1}

    both = tmp_path / "both"
    for split in ("train", "test"):
        save_to_disk(both / split, ["data-00000-of-00001.arrow"])
    (both / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data, records, _ = read(both)
    assert [u.name for u in data.units()] == [
        f"{split}/data-00000-of-00001.arrow" for split in ("test", "train")
    ]
    assert [r.key for r in records][::2] == [
        f"{split}/data-00000-of-00001-0" for split in ("test", "train")
    ]

    (one / names[0]).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ClipshiftError, match="git lfs pull"):
        read(one)
    (one / names[0]).unlink()
    with pytest.raises(ClipshiftError, match="listed in state"):
        read(one)
    (one / "state.json").write_text('{"_data_files": [], "_indices_data_files": [1]}')
    with pytest.raises(ClipshiftError, match="flatten_indices"):
        read(one)


def test_damaged_tables_are_errors(tmp_path: Path) -> None:
    folder = save_to_disk(tmp_path / "disk", ["data-00000-of-00001.arrow"])
    file = folder / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    at = data.index(b"t0t1")  # the texts; their offsets (0, 2, 4) lie before
    offsets = data.rindex(bytes([0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]), 0, at)
    wild = (1 << 30).to_bytes(4, "little")
    for damaged in (
        data[: offsets + 4] + wild + data[offsets + 8 :],
        data[:at] + b"\xff\xfe" + data[at + 2 :],
        data[: len(data) // 2],
    ):
        file.write_bytes(damaged)
        with pytest.raises(ClipshiftError, match="not a readable arrow file"):
            read(folder)
    text = pa.array([b"t0", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"path": ["1.jpg", "2.jpg"], "text": text}), tmp_path / "x.parquet")
    with pytest.raises(ClipshiftError, match="not a readable parquet file"):
        read(tmp_path / "x.parquet")


def coco(folder: Path, part: str = "images/train2017") -> Path:
    """Ids out of order, five captions, one image without a caption, one without a file."""
    ids = [12, 3, 101, 7]
    files(folder / part, *(f"{i:012d}.jpg" for i in ids[:3]))
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "coco_url": f"http://x/{i}"} for i in ids]
    captions = [
        {"id": 50 - 2 * n - (i == 3), "image_id": i, "caption": f"caption {n} of {i}"}
        for n in range(5)
        for i in (12, 3)
    ]
    objects = [
        {"id": n, "image_id": i, "category_id": c}
        for n, (i, c) in enumerate([(12, 18), (12, 18), (3, 18), (3, 1), (999, 1)])
    ]
    (folder / "annotations").mkdir(parents=True)
    for name, annotations in (("captions", captions), ("instances", objects)):
        value: dict[str, Any] = {"info": {}, "images": images, "annotations": annotations}
        if name == "instances":
            value["categories"] = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
        (folder / f"annotations/{name}_train2017.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("part", ["images/train2017", "train2017", "images", "."])
def test_coco_captions_as_torchvision_reads_them(tmp_path: Path, part: str) -> None:
    pytest.importorskip("pycocotools")
    from torchvision.datasets import CocoCaptions

    folder = coco(tmp_path, part)
    annotations = folder / "annotations/captions_train2017.json"
    for path in (folder, annotations):
        data, records, rejected = read(path)
        assert data.name == "coco"
        assert [r.key for r in records] == ["3", "12", "101"]
        assert [r.url for r in records] == ["http://x/3", "http://x/12", "http://x/101"]
        assert rejected == {"7": "image file is missing"}
        assert any(line.endswith("8 further captions of images") for line in data.said)
    theirs = CocoCaptions(str(folder / part), str(annotations))
    kept = [i for i, key in enumerate(theirs.ids) if key != 7]
    assert [theirs.ids[i] for i in kept] == [int(r.key) for r in records]
    for i, record in zip(kept, records, strict=True):
        image, captions = theirs[i]
        own = Image.open(io.BytesIO(record.place.read())).convert("RGB")
        assert np.array_equal(np.asarray(image), np.asarray(own))
        assert record.caption in captions if captions else record.caption is None
    by_id = {a["image_id"]: a for a in sorted(theirs.coco.anns.values(), key=lambda a: -a["id"])}
    assert [r.caption for r in records[:2]] == [by_id[3]["caption"], by_id[12]["caption"]]


def test_coco_instances_and_what_is_left_out(tmp_path: Path) -> None:
    folder = coco(tmp_path)
    data, records, _ = read(folder / "annotations/instances_train2017.json")
    assert [(r.key, r.label) for r in records] == [("3", None), ("12", "dog"), ("101", None)]
    assert data.classes() == ["person", "dog"]
    assert any("1 images of several categories" in line for line in data.said)
    assert any("1 annotations of no image" in line for line in data.said)
    files(folder / "images/train2017", "extra.jpg")
    data, _, _ = read(folder)
    assert data.left_out == {"json": 1, "image file without an entry": 1}


def test_coco_troubles(tmp_path: Path) -> None:
    folder = coco(tmp_path / "a", "elsewhere")
    file = folder / "annotations/captions_train2017.json"
    with pytest.raises(ClipshiftError, match="image=FOLDER"):
        read(file)
    assert len(read(file, image="../elsewhere")[1]) == 3
    with pytest.raises(ClipshiftError, match="is not there"):
        read(file, image="nowhere")
    value = json.loads(file.read_text())
    value["images"] += [value["images"][0], {"file_name": "000000000003.jpg"}]
    file.write_text(json.dumps(value))
    _, records, rejected = read(file, image="../elsewhere")
    assert len(records) == 3
    assert sorted(rejected.values()) == ["image file is missing", "key occurs twice", "no key"]
    file.write_text('{"images": [1]')
    with pytest.raises(ClipshiftError, match="Invalid JSON"):
        read(file)
    file.write_text('{"images": [{"file_name": "x"}, 1]}')
    with pytest.raises(ClipshiftError, match=r"images\.1: Input should be an object"):
        read(file)
    file.write_text('{"images": [{"filename": "x", "sentences": []}]}')  # Karpathy's form
    with pytest.raises(ClipshiftError, match="have no `file_name`"):
        read(file)
    with pytest.raises(ClipshiftError, match="'caption' is not named"):
        read(file, caption="x")


def test_a_tar_beside_tables_is_no_list_of_urls(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", [("1.jpg", photo(1))])
    (tmp_path / "x.csv").write_text("url\nhttp://x\n")
    data = open_dataset(tmp_path)
    assert (data.name, len(data.units()), data.left_out) == ("webdataset", 1, {"csv": 1})
