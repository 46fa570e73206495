"""Lists of URLs as people have them: every row is in the list, or counted with its number."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.shards import url_hash
from clipshift.datasets.urls.listing import write_list


def make(
    folder: Path, file: Path, columns: tuple[str, str] = ("url", "caption")
) -> tuple[dict[str, str], dict[str, Any]]:
    """URL -> caption of the list, and its counts with how the file was read."""
    write_list("p", [file], columns, 2, folder / "list.parquet")
    rows = read_parquet(folder / "list.parquet").to_pylist()
    assert all(row["key"] == url_hash(row["url"]) for row in rows)
    counts = read_json(folder / "list.json")
    return {row["url"]: row["caption"] for row in rows}, counts | counts["files"][str(file)]


def text(folder: Path, data: str | bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder / name


def test_a_late_comma_and_line_break(tmp_path: Path) -> None:
    lines = "".join(f"http://x/{i},c{i}\n" for i in range(25_000))
    file = text(tmp_path, f'url,caption\n{lines}http://x/last,"one, ""two""\nthree"\n')
    found, counts = make(tmp_path, file)
    assert (counts["in"], counts["out"], counts["rejected"]) == (25_001, 25_001, {})
    assert found["http://x/last"] == 'one, "two"\nthree'


def test_rows_that_are_none_are_counted_with_their_numbers(tmp_path: Path) -> None:
    data = b"url,caption\nhttp://1,a\nhttp://2\nhttp://3,b,c\nhttp://4,caf\xe9\nhttp://\xe9,d\n"
    found, counts = make(tmp_path, text(tmp_path, data))
    assert found == {"http://1": "a", "http://4": "caf\\xe9"}
    assert counts["rejected"] == {
        "row has not the 2 fields of the header": 2, "URL is not UTF-8": 1,
    }  # fmt: skip
    assert (counts["in"], counts["captions_with_escaped_bytes"]) == (5, 1)
    assert counts["first_rows_left_out"] == {
        "row has not the 2 fields of the header": [2, 3], "URL is not UTF-8": [5],
    }  # fmt: skip


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_tables_without_a_header(tmp_path: Path, order: int, pack: Any) -> None:
    """CC12M: URL, caption; CC3M: caption, URL."""
    rows = [("http://1", 'a "b", c'), ("http://2", '"d'), ("http://3", 'e"')]
    data = "".join("\t".join(row[::order]) + "\n" for row in rows)
    file = text(tmp_path, pack(data.encode()), "a.tsv")
    found, counts = make(tmp_path, file)
    assert found == dict(rows)
    url = 0 if order == 1 else 1
    assert counts["columns"] == f"no header: column {url} holds the URLs, column {1 - url} the " \
        "captions"  # fmt: skip
    assert make(tmp_path, file, (str(url), str(1 - url)))[0] == dict(rows)


def test_columns_of_a_table_without_a_header_are_asked_for(tmp_path: Path) -> None:
    file = text(tmp_path, "http://1,a,http://page\n")
    with pytest.raises(ClipshiftError, match=r"a\.csv has no header, and 3 columns of which 2"):
        make(tmp_path, file)
    assert make(tmp_path, file, ("0", "1"))[0] == {"http://1": "a"}


def test_blanks_of_a_caption_stay_and_those_of_a_url_do_not(tmp_path: Path) -> None:
    file = text(tmp_path, "url,caption\n http://1\u00a0, a \n")
    assert make(tmp_path, file)[0] == {"http://1": " a "}
    pq.write_table(pa.table({"url": [" http://1\t"], "caption": [" a "]}), tmp_path / "a.parquet")
    assert make(tmp_path, tmp_path / "a.parquet")[0] == {"http://1": " a "}


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
     pa.dictionary(pa.int32(), pa.string())],
)  # fmt: skip
def test_every_type_of_text_in_parquet(tmp_path: Path, kind: Any) -> None:
    values: dict[str, list[Any]] = {"URL": ["http://1", None], 'my "text"': ["é\0", "b"]}
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        values = {k: [v and v.encode() for v in column] for k, column in values.items()}
    arrays = {k: pa.array(v).cast(kind) for k, v in values.items()}
    pq.write_table(pa.table(arrays), tmp_path / "a.parquet")
    found, counts = make(tmp_path, tmp_path / "a.parquet", ("URL", 'my "text"'))
    assert found == {"http://1": "é\0"}
    assert counts["rejected"] == {"no URL": 1}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", r"a\.csv .*git lfs pull"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", r"a\.parquet .*git lfs"),
        ("a.csv", b"url,caption\n", r"a\.csv: no URL in the column 'url' \(no row\)"),
        ("a.csv", b"url\nhttp://1\n", r"a\.csv lacks the columns \['caption'\]"),
    ],
)
def test_files_that_are_no_list(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        make(tmp_path, text(tmp_path, data, name))


def test_a_column_of_lists_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://1"], "caption": [["a", "b"]]}), tmp_path / "a.parquet")
    with pytest.raises(ClipshiftError, match=r"'caption' is VARCHAR\[\], no text"):
        make(tmp_path, tmp_path / "a.parquet")
