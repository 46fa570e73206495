"""Tars and parquet files: whole, reproducible, and refused where they are not."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_parquet
from clipshift.datasets.shards import SAMPLE_SCHEMA, write_table, write_tar
from clipshift.datasets.tars import Sample, read_tar
from tests.conftest import photo, row


@pytest.fixture
def tar(tmp_path: Path, ten_samples: list[Sample]) -> Path:
    write_tar(tmp_path / "0.tar", ten_samples)
    return tmp_path / "0.tar"


def test_round_trip(tar: Path, ten_samples: list[Sample]) -> None:
    assert list(read_tar(tar)) == ten_samples


def test_two_writes_give_the_same_bytes(
    tar: Path, ten_samples: list[Sample], tmp_path: Path
) -> None:
    assert write_tar(tmp_path / "again.tar", iter(ten_samples)) == 10
    assert (tmp_path / "again.tar").read_bytes() == tar.read_bytes()


def test_webdataset_reads_it(tar: Path, ten_samples: list[Sample]) -> None:
    found = list(webdataset.WebDataset(str(tar), shardshuffle=False))
    assert [s["__key__"] for s in found] == [s.key for s in ten_samples]
    assert [{k: v for k, v in s.items() if not k.startswith("_")} for s in found] == [
        s.parts for s in ten_samples
    ]


def test_tar_of_another_tool(tmp_path: Path) -> None:
    """Folders, several suffix parts, and other paddings are as webdataset reads them."""
    path = tmp_path / "x.tar"
    with webdataset.TarWriter(str(path)) as writer:
        writer.write({"__key__": "a", "png": photo(1, kind="PNG"), "seg.txt": b"x"})
        writer.write({"__key__": "b", "png": photo(2, kind="PNG")})
    found = list(read_tar(path))
    assert [(s.key, sorted(s.parts)) for s in found] == [("a", ["png", "seg.txt"]), ("b", ["png"])]
    assert found[1].image == photo(2, kind="PNG")


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return tar.getmembers()


@pytest.mark.parametrize("place", ["header", "data", "padding", "between samples", "one end mark"])
def test_truncated_tar_names_file_and_last_sample(tar: Path, place: str) -> None:
    sixth = next(m for m in members(tar) if m.name == "key-5.jpg")
    last = members(tar)[-1]
    cut, key = {
        "header": (sixth.offset + 100, "key-4"),
        "data": (sixth.offset_data + 10, "key-4"),
        "padding": (sixth.offset_data + sixth.size + 1, "key-5"),
        "between samples": (sixth.offset, "key-4"),
        "one end mark": (last.offset_data + 512 + 512, "key-9"),
    }[place]
    tar.write_bytes(tar.read_bytes()[:cut])
    with pytest.raises(ClipshiftError, match=rf"0\.tar is truncated or damaged.*'{key}'"):
        list(read_tar(tar))


@pytest.mark.parametrize("size", [0, 1, 300, 511])
def test_tar_without_a_whole_header_is_refused(tar: Path, size: int) -> None:
    tar.write_bytes(tar.read_bytes()[:size])
    with pytest.raises(ClipshiftError, match=r"at its beginning|is empty"):
        list(read_tar(tar))


def test_cut_after_zeros_is_still_a_cut(tmp_path: Path) -> None:
    """Data that ends in zeros looks like the end marks, and is none."""
    path = tmp_path / "zeros.tar"
    write_tar(path, [Sample("a", {"bin": bytes(4096)}), Sample("b", {"bin": bytes(4096)})])
    second = members(path)[1]
    path.write_bytes(path.read_bytes()[: second.offset])
    with pytest.raises(ClipshiftError, match="truncated"):
        list(read_tar(path))


def test_damaged_header_in_the_middle_is_no_short_read(tar: Path) -> None:
    sixth = next(m for m in members(tar) if m.name == "key-5.jpg")
    data = bytearray(tar.read_bytes())
    data[sixth.offset + 148 : sixth.offset + 156] = b"99999999"  # its checksum
    tar.write_bytes(data)
    with pytest.raises(ClipshiftError, match="'key-4'"):
        list(read_tar(tar))


def test_no_tar_at_all(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(photo(0) * 20)
    with pytest.raises(ClipshiftError, match=r"at its beginning|is empty"):
        list(read_tar(tmp_path / "0.tar"))


def test_part_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    """Two members of one name would otherwise become one."""
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("a/0.jpg")
            info.size = 3
            tar.addfile(info, io.BytesIO(b"jpg"))
    with pytest.raises(ClipshiftError, match="jpg"):
        list(read_tar(path))


@pytest.mark.parametrize("key", ["", "a.b", "a/b"])
def test_key_that_webdataset_would_cut_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ClipshiftError, match="dot or a slash"):
        write_tar(tmp_path / "0.tar", [Sample("good", {"txt": b""}), Sample(key, {"txt": b""})])
    assert not list(tmp_path.iterdir())


def test_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"0\.tar: the key 'a' occurs twice"):
        write_tar(tmp_path / "0.tar", [Sample("a", {"txt": b"1"}), Sample("a", {"txt": b"2"})])
    assert not list(tmp_path.iterdir())


def test_table_round_trip(tmp_path: Path) -> None:
    rows = [row("s", str(i), class_name=None if i else "bird") for i in range(3)]
    write_table(tmp_path / "a.parquet", rows)
    write_table(tmp_path / "b.parquet", rows)
    table = read_parquet(tmp_path / "a.parquet")
    assert table.schema.equals(SAMPLE_SCHEMA)
    assert table.to_pylist() == rows
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_missing_column_names_file_and_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pa.table({"key": ["a"]}))
    with pytest.raises(ClipshiftError, match=r"a\.parquet lacks the columns \['similarity'\].*key"):
        read_parquet(tmp_path / "a.parquet", ["key", "similarity"])


@pytest.mark.parametrize("damage", ["no parquet", "empty", "truncated", "damaged page"])
def test_broken_parquet_names_the_file(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, [row("s", str(i)) for i in range(50)])
    data = path.read_bytes()
    page = data[:4] + bytes(255 - byte for byte in data[4:400]) + data[400:]
    broken = {"no parquet": b"hello", "empty": b"", "truncated": data[:-20], "damaged page": page}
    path.write_bytes(broken[damage])
    with pytest.raises(ClipshiftError, match=r"a\.parquet is not a readable parquet file"):
        read_parquet(path, ["key"])
