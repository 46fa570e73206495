"""Formats that are made of tars, sample by sample against webdataset's own reader."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats import open_dataset, recognise
from clipshift.datasets.formats.base import label_index
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from tests.conftest import photo
from tests.formats_case import img2dataset, read, tar


def own_reader(path: Path) -> list[tuple[str, bytes, str | None, str | None]]:
    """What webdataset reads of a tar: key, image, caption, label."""
    found = []
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        image = next(v for k, v in sample.items() if k in ("jpg", "jpeg", "png", "webp"))
        text = [sample[k].decode() if k in sample else None for k in ("txt", "cls")]
        found.append((sample["__key__"], image, *text))
    return found


def ours(path: Path, **columns: str) -> list[tuple[str, bytes, str | None, str | None]]:
    return [(r.key, r.place.read(), r.caption, r.label) for r in read(path, **columns)[1]]


MEMBERS = [
    ("a/0001.jpg", photo(1)), ("a/0001.cls", b"0"),
    ("b/0001.JPEG", photo(2)), ("b/0001.cls", b"1"), ("b/0001.txt", b"a cat, or a dog"),
    ("c.d/x.png", photo(3, kind="PNG")), ("c.d/x.seg.npy", b"1"),
    ("._0001.jpg", b"mac"), ("__meta__/x.jpg", b"meta"), ("README", b"read me"),
    ("\u00fc.jpg", photo(4)), ("\u00fc.txt", "gr\u00fcn".encode()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz")])
def test_samples_are_those_of_webdataset(tmp_path: Path, name: str, mode: str) -> None:
    path = tar(tmp_path / name, MEMBERS, mode)
    assert ours(path) == own_reader(path) == ours(tmp_path)
    assert [key for key, *_ in ours(path)] == ["a/0001", "b/0001", "c.d/x", "\u00fc"]


def test_what_we_write_is_read_by_webdataset_and_by_us(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    samples = [
        Sample(f"k{i}", {"jpg": photo(i), "txt": f"caption {i}".encode(), "cls": b"%d" % i})
        for i in range(5)
    ]
    write_tar(path, samples)
    assert ours(path) == own_reader(path)
    assert len(ours(path)) == 5


def test_gzipped_tar_called_tar_and_archives_of_other_kinds(tmp_path: Path) -> None:
    tar(tmp_path / "packed/x.tar", [("1.jpg", photo(1))], "w:gz")
    assert ours(tmp_path / "packed") == [("1", photo(1), None, None)]
    for name, head, remedy in [
        ("x.zip", b"PK\x03\x04", "unzip"), ("x.tar.zst", b"\x28\xb5\x2f\xfd", "zstd -d"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("y.tar", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(head + bytes(600))
        with pytest.raises(ClipshiftError, match=remedy):
            read(tmp_path / name)


def test_columns_of_webdataset(tmp_path: Path) -> None:
    entry = {"key": "K1", "url": "http://x/1", "uid": "ab", "sha256": "cd", "blip": "a dog"}
    members = [
        ("1.jpg", photo(1)), ("1.seg.png", photo(2, kind="PNG")), ("1.txt", b" a cat\n"),
        ("1.json", json.dumps(entry).encode()), ("1.alt.txt", b"alt"),
    ]  # fmt: skip
    path = tar(tmp_path / "x.tar", members)
    data, (first,), rejected = read(path)
    assert (first.caption, first.url, first.uid, first.sha256) == (
        "a cat",
        "http://x/1",
        "ab",
        "cd",
    )
    assert rejected == {"1": "second image of a sample"}
    assert data.numbered
    named = {"caption": "json:blip", "key": "json:key", "image": "seg.png"}
    _, (second,), rejected = read(path, **named)
    assert (second.key, second.caption) == ("K1", "a dog")
    assert second.place.read() == photo(2, kind="PNG")
    assert rejected == {}
    assert read(path, caption="alt.txt")[1][0].caption == "alt"
    data, (record,), _ = read(path, caption="alt", image="jpg")
    assert (record.caption, data.said[-1:]) == (None, ["x.tar: no sample has caption = alt"])
    assert read(path, key="json:nothing")[2] == {"1": "no key"}


def test_damaged_samples_of_a_tar_are_rejected_with_reasons(tmp_path: Path) -> None:
    members = [
        ("1.txt", b"no image"), ("2.jpg", photo(2)), ("2.json", b"{"),
        ("3.jpg", photo(3)), ("3.txt", b"caf\xe9"), ("4.jpg", photo(4)), ("4.json", b"[1]"),
        ("5.jpg", photo(5)), ("6.jpg", photo(6)), ("5.jpg", photo(7)),
        ("7.jpg", photo(7)), ("7.json", b'{"label": [1, 2]}'),
    ]  # fmt: skip
    _, records, rejected = read(tar(tmp_path / "x.tar", members))
    assert [r.key for r in records] == ["5", "6"]
    assert rejected == {
        "1": "no image in the sample", "2": "its json is not JSON", "3": "text is not UTF-8",
        "4": "its json is no object", "5": "key occurs twice", "7": "several labels",
    }  # fmt: skip


def test_units_in_natural_order_and_keys_of_two_tars(tmp_path: Path) -> None:
    for n in (10, 2, 0):
        tar(tmp_path / f"{n}.tar", [("1.jpg", photo(n))])
    (tmp_path / "classnames.txt").write_bytes(b"\xef\xbb\xbftench\r\ngoldfish\r\n\r\n")
    (tmp_path / "sizes.json").write_text("{}")
    data = open_dataset(tmp_path)
    assert [u.name for u in data.units()] == ["0.tar", "2.tar", "10.tar"]
    assert data.classes() == ["tench", "goldfish"]
    assert data.left_out == {"json": 1}
    with pytest.raises(ClipshiftError, match=r"0\.tar and 2\.tar share the key '1'"):
        list(data.all_records())
    _, records, _ = read(tmp_path, key="unit/key")
    assert [r.key for r in records] == ["0.tar/1", "2.tar/1", "10.tar/1"]


def clip_benchmark(folder: Path, names: bytes = b"cat\ndog\n") -> Path:
    for split, labels in (("test", (0, 1)), ("train", (1, 1))):
        for i, label in enumerate(labels):
            members = [
                (f"{split}{i}.webp", photo(i, kind="WEBP")),
                (f"{split}{i}.cls", b"%d" % label),
            ]
            tar(folder / f"{split}/{i}.tar", members)
        (folder / split / "nshards.txt").write_text("2\r\n")
    (folder / "classnames.txt").write_bytes(names)
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}.\n")
    return folder


def test_clip_benchmark(tmp_path: Path) -> None:
    folder = clip_benchmark(tmp_path / "wds_pets", b"\xef\xbb\xbfcat\r\ndog\r\n\r\n")
    tar(folder / "test/2.tar", [("beyond.jpg", photo(1))])
    data, records, rejected = read(folder)
    assert data.name == "clip_benchmark"
    assert data.classes() == ["cat", "dog"]
    assert [u.name for u in data.units()] == [
        "test/0.tar", "test/1.tar", "train/0.tar", "train/1.tar",
    ]  # fmt: skip
    assert [(r.key, r.label) for r in records] == [
        ("test0", "0"), ("test1", "1"), ("train0", "1"), ("train1", "1"),
    ]  # fmt: skip
    assert rejected == {}
    assert data.left_out == {"tar beyond nshards.txt": 1, "txt": 1}
    split, records, _ = read(folder / "test")
    assert split.name == "clip_benchmark"
    assert split.classes() == ["cat", "dog"]
    assert [u.name for u in split.units()] == ["test/0.tar", "test/1.tar"]
    for n, unit in enumerate(split.units()):
        assert [(r.key, r.place.read(), None, r.label) for r in records[n : n + 1]] == own_reader(
            unit.files[0]
        )


def test_clip_benchmark_troubles(tmp_path: Path) -> None:
    latin = clip_benchmark(tmp_path / "latin", b"cat\ncaf\xe9\n")
    with pytest.raises(ClipshiftError, match=r"classnames\.txt, line 2: not UTF-8.*iconv"):
        open_dataset(latin).classes()
    blank = clip_benchmark(tmp_path / "blank", b"cat\n\ndog\n")
    with pytest.raises(ClipshiftError, match=r"line 2: no name"):
        open_dataset(blank).classes()
    odd = clip_benchmark(tmp_path / "odd")
    labels = ["1\n", "\u00b2", "-1", "2", "cat", "1.0"]
    members = [
        (f"{i}.{suffix}", data)
        for i, label in enumerate(labels)
        for suffix, data in (("jpg", photo(i)), ("cls", label.encode()))
    ]
    tar(odd / "test/0.tar", [*members, ("9.jpg", photo(9))])
    _, records, rejected = read(odd / "test")
    assert [r.label for r in records] == ["1", "1"]
    assert sorted(rejected.values()) == [
        "label is beyond the classes", *["label is no number"] * 4, "no label",
    ]  # fmt: skip
    (odd / "test/nshards.txt").write_text("3")
    with pytest.raises(ClipshiftError, match=r"2\.tar is missing"):
        open_dataset(odd).units()
    (odd / "test/nshards.txt").write_text("many")
    with pytest.raises(ClipshiftError, match="expected the number of tars"):
        open_dataset(odd).units()


def test_timm_webdataset(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from timm.data.readers.reader_wds import _load_info, _parse_split_info

    splits = {}
    for split, count in (("train", 2), ("validation", 1)):
        names = [f"imagenet1k-{split}-{i:04d}.tar" for i in range(count)]
        for i, name in enumerate(names):
            key = f"n0_{split}_{i}"
            tar(
                tmp_path / name,
                [(f"{key}.cls", b"3"), (f"{key}.jpg", photo(i)), (f"{key}.json", b"{}")],
            )
        splits[split] = {"name": split, "filenames": names, "shard_lengths": [1] * count}
        splits[split]["num_samples"] = count
    (tmp_path / "_info.json").write_text(json.dumps({"splits": splits}))
    (tmp_path / "README.md").write_text("")
    data, records, _ = read(tmp_path)
    assert data.name == "timm_webdataset"
    theirs = [
        (split, name, length)
        for split in splits
        for info in [_parse_split_info(split, _load_info(str(tmp_path)))]
        for name, length in zip(info.filenames, info.shard_lengths, strict=True)
    ]
    assert [(u.name, u.samples) for u in data.units()] == [(f"{s}/{n}", k) for s, n, k in theirs]
    read_by_webdataset = [s for _, name, _ in theirs for s in own_reader(tmp_path / name)]
    assert [(r.key, r.place.read(), r.caption, r.label) for r in records] == read_by_webdataset
    (tmp_path / "imagenet1k-train-0001.tar").unlink()
    tar(tmp_path / "other.tar", [("1.jpg", photo(1))])
    data, records, _ = read(tmp_path)
    assert len(records) == 2
    assert data.left_out == {
        "tar that is listed and not there": 1, "tar that is not listed": 1, "md": 1,
    }  # fmt: skip
    assert data.said == ["1 of 2 tars of 'train' are not there"]


@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
@pytest.mark.parametrize(("width", "digest"), [(5, "sha256"), (8, "md5"), (6, None)])
def test_img2dataset(tmp_path: Path, form: str, width: int, digest: str | None) -> None:
    folder = img2dataset(
        tmp_path, {0: 2, 2: 1}, width, digest, form, failed=1, uid=lambda n, i: f"{n}{i:031x}"
    )
    data, records, rejected = read(folder)
    assert data.name == "img2dataset"
    assert [u.name for u in data.units()] == [f"{n:0{width}d}" for n in (0, 2)]
    table = pa.concat_tables(
        pq.read_table(f, columns=["key", "url", "caption", "uid", *([digest] if digest else [])])
        for f in sorted(folder.glob("*.parquet"))
    ).to_pylist()
    failed = {
        row["key"]
        for row in table
        if row["key"][-1] == ("2" if row["key"][width - 1] == "0" else "1")
    }
    assert rejected == dict.fromkeys(failed, "failed_to_download")
    assert [
        {"key": r.key, "url": r.url, "caption": r.caption, "uid": r.uid}
        | ({digest: getattr(r, digest)} if digest else {})
        for r in records
    ] == [row for row in table if row["key"] not in failed]
    assert [r.place.read() for r in records] == [photo(0), photo(1), photo(200)]
    assert f"1 numbers below {2:0{width}d} have no finished shard" in data.said
    assert data.left_out == {}
    if form == "webdataset":
        tars = sorted(folder.glob("*.tar"))
        theirs = [s for t in tars for s in own_reader(t)]
        assert [(r.key, r.place.read(), r.caption, r.label) for r in records] == theirs


def test_img2dataset_unfinished_empty_and_damaged_shards(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path / "p", {0: 1, 1: 0, 2: 1, 10: 1}, failed=1)
    (folder / "00002_stats.json").unlink()
    (folder / "00011_stats.json").write_text("{}")
    (folder / "README").write_text("")
    (folder / "_tmp").mkdir()
    (folder / "_tmp/0.feather").write_text("")
    (folder / "7").mkdir()
    (folder / "7/x.jpg").write_bytes(photo(1))
    data, records, rejected = read(folder)
    assert [r.key for r in records] == ["000000000", "000100000"]
    assert len(rejected) == 3
    assert data.left_out == {
        "unfinished shard (no _stats.json)": 1, "stats without a shard": 1, "no suffix": 1,
        "feather": 1, "jpg": 1,
    }  # fmt: skip
    assert "00001.tar has no downloaded image" in data.said
    for stats in folder.glob("*_stats.json"):
        stats.unlink()
    data, records, _ = read(folder)
    assert len(records) == 3
    assert "no shard has its _stats.json: all are taken as finished" in data.said


def test_img2dataset_tables_and_tars_that_disagree(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path / "p", {0: 2})
    rows = pq.read_table(folder / "00000.parquet").to_pylist()
    rows[0]["key"] = "000009999"
    rows.append(rows[1])
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    _, records, rejected = read(folder)
    assert [r.key for r in records] == ["000000001"]
    assert rejected == {
        "000000000": "not a downloaded row of the table",
        "000009999": "downloaded, but the image is missing",
        "000000001": "key occurs twice",
    }
    _, (by_uid,), _ = read(img2dataset(tmp_path / "u", {0: 1}, uid=lambda n, i: "ab"), key="uid")
    assert by_uid.key == "ab"
    missing = read(img2dataset(tmp_path / "v", {0: 1}, uid=lambda n, i: None), key="uid")
    assert list(missing[2].values()) == ["no key"]
    (folder / "00000.tar").unlink()
    with pytest.raises(ClipshiftError, match=r"neither 00000\.tar nor"):
        read(folder)
    img2dataset(folder, {1: 1})
    data, records, _ = read(folder)
    assert len(records) == 1
    assert data.left_out == {"table without its images": 1}
    img2dataset(folder, {2: 1}, form="files")
    with pytest.raises(ClipshiftError, match="mixes the forms"):
        read(folder)


def test_img2dataset_tar_without_its_table_reads_the_tar(tmp_path: Path) -> None:
    folder = img2dataset(tmp_path, {0: 2})
    (folder / "00000.parquet").unlink()
    data, records, _ = read(folder)
    assert data.name == "img2dataset"
    assert [r.url for r in records] == ["http://x/0-0.jpg", "http://x/0-1.jpg"]
    assert "1 shards have no table: what failed there is not known" in data.said


def test_label_index() -> None:
    assert label_index("10", ["0", "10", "5"], numbered=False) == 1
    assert label_index("1", ["a", "b"], numbered=True) == 1
    for label, numbered in (("2", True), ("missile", False), ("c", False), ("\u00b2", True)):
        with pytest.raises(ClipshiftError):
            label_index(label, ["missile", "missile"], numbered)


def test_nothing_there_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="is not there"):
        recognise(tmp_path / "no")
    path = tar(tmp_path / "x.tar", [("1.jpg", photo(1))])
    with pytest.raises(ClipshiftError, match="no format 'wds'"):
        open_dataset(path, "wds")
    with pytest.raises(ClipshiftError, match="no field 'captions'"):
        open_dataset(path, None, {"captions": "x"})
    with pytest.raises(ClipshiftError, match="is not coco; it looks like webdataset"):
        open_dataset(path, "coco")
    shutil.copy(path, tmp_path / "y.dat")
    os.truncate(tmp_path / "y.dat", 0)
    with pytest.raises(ClipshiftError, match="is empty"):
        recognise(tmp_path / "y.dat")
    (tmp_path / "z.tar").write_bytes(gzip.compress(b"x" * 99)[:-4])
    with pytest.raises(ClipshiftError, match="truncated or damaged"):
        read(tmp_path / "z.tar")


def test_members_that_are_not_read_are_said(tmp_path: Path) -> None:
    members = [("1.jpg", photo(1)), ("1.mp4", b"x"), ("1.txt", b"one"), ("2.npz", b"y")]
    data, records, rejected = read(tar(tmp_path / "0.tar", members))
    assert [r.key for r in records] == ["1"] and rejected == {"2": "no image in the sample"}
    assert data.said == [f"members with the suffix '{s}' are not read" for s in ("mp4", "npz")]
