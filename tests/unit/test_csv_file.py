"""Tables of text as people have them: every row is read as it means, or counted."""

import bz2
import codecs
import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest

from clipshift.core.csv_file import QUOTES, open_csv
from clipshift.core.errors import ClipshiftError


def is_url(cell: str) -> bool:
    return cell.startswith("http")


def read(path: Path, data: bytes | str) -> tuple[list[str], list[Any]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    file = open_csv(path, is_url)
    return file.columns, [row for _, row in file.rows()]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("url,caption\nhttp://a,b c\n", ["http://a", "b c"]),
        ("url,caption\r\nhttp://a,b\r\n", ["http://a", "b"]),
        ('url,caption\nhttp://a,"a ""b"", c"\n', ["http://a", 'a "b", c']),
        ('url,caption\nhttp://a,"two\nlines"\n', ["http://a", "two\nlines"]),
        ('url,caption\nhttp://a,"two\r\nlines\t;"\n', ["http://a", "two\r\nlines\t;"]),
        ("url;caption\nhttp://a;b, c\n", ["http://a", "b, c"]),
        ("sep=;\r\nurl;caption\r\nhttp://a;b\r\n", ["http://a", "b"]),
        ("url\tcaption\nhttp://a\tb, c; d\n", ["http://a", "b, c; d"]),
        ('url\tcaption\nhttp://a\t"b\tc"\n', ["http://a", "b\tc"]),
        ('url\tcaption\nhttp://a\t"b" is c\n', ["http://a", '"b" is c']),
        ("url,caption\nhttp://a,  b \n", ["http://a", "  b "]),
        ("url,caption\nhttp://a,b\0c\n", ["http://a", "b\0c"]),
        ("url,caption\n\nhttp://a,b", ["http://a", "b"]),
    ],
)
def test_forms(tmp_path: Path, text: str, cells: list[str]) -> None:
    assert read(tmp_path / "a", text) == (["url", "caption"], [cells])


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, b""])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_marks_and_compression(tmp_path: Path, mark: bytes, pack: Any) -> None:
    data = pack(mark + "url,caption\nhttp://a,é\n".encode())
    assert read(tmp_path / "a.csv", data) == (["url", "caption"], [["http://a", "é"]])


def test_excel_in_utf_16(tmp_path: Path) -> None:
    data = "url\tcaption\r\nhttp://a\té\r\n".encode("utf-16")
    assert read(tmp_path / "a.txt", data) == (["url", "caption"], [["http://a", "é"]])


def test_without_a_header(tmp_path: Path) -> None:
    """CC3M and CC12M: the first row is one."""
    rows = [["a, b", "http://1"], ['"c', "http://2"], ['d"', "http://3"]]
    text = "".join("\t".join(row) + "\n" for row in rows)
    assert read(tmp_path / "a.tsv", text) == (["0", "1"], rows)


def test_late_quotes_and_breaks(tmp_path: Path) -> None:
    """Beyond every sample that a reader may take."""
    text = "url,caption\n" + "".join(f"http://{i},c{i}\n" for i in range(30_000))
    _, rows = read(tmp_path / "a.csv", text + 'http://x,"one,\n""two"""\n')
    assert len(rows) == 30_001
    assert rows[-1] == ["http://x", 'one,\n"two"']


def test_a_bad_row_costs_its_own_line(tmp_path: Path) -> None:
    text = 'url,caption\nhttp://1,"open\nhttp://2,b\nhttp://3\nhttp://4,a,b\nhttp://5,"a"b\n'
    file = tmp_path / "a.csv"
    _, rows = read(file, text + 'http://6,"good\none"\nhttp://7,"end\n')
    wrong = "row has not the 2 fields of the header"
    assert rows == [
        QUOTES, ["http://2", "b"], wrong, wrong, QUOTES, ["http://6", "good\none"], QUOTES,
    ]  # fmt: skip
    assert [n for n, _ in open_csv(file, is_url).rows()] == [1, 2, 3, 4, 5, 6, 7]


def test_bytes_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    _, rows = read(tmp_path / "a.csv", b"url,caption\nhttp://a,caf\xe9\n")
    assert rows[0][1].encode("utf-8", "surrogateescape") == b"caf\xe9"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "holds no row"),
        (b"PAR1xxxx", "is a parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (gzip.compress(b"url,caption\n" * 999)[:-20], "get it again"),
        (b"url,caption,url\nhttp://a,b,c\n", "two columns are called 'url'"),
    ],
)
def test_what_is_no_table(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        read(tmp_path / "a.csv", data)
