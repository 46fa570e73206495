"""The authors' labels on small files of the layouts that they are published in."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.apps.labelling.released import Subset, released
from clipshift.apps.labelling.table import SCHEMA, read_labels
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_parquet
from clipshift.datasets.shards import write_table
from clipshift.datasets.urls.listing import write_list
from tests.conftest import photo, row

NATURAL, RENDITION = "laion400m_natural_57M-meta", "laion400m_rendition_16M-meta"
SUBSETS = [Subset(NATURAL, 0), Subset(RENDITION, 1)]


def url(number: int) -> str:
    return f"https://example.org/{number}.jpg"


def laion(path: Path, numbers: list[int], texts: dict[int, str] | None = None) -> Path:
    """Part of a subset as LAION's metadata has it."""
    texts = texts or {}
    table = {
        "SAMPLE_ID": pa.array([float(n) for n in numbers], pa.float64()),
        "URL": [url(n) for n in numbers],
        "TEXT": [texts.get(n, f"text {n}") for n in numbers],
        "HEIGHT": pa.array([100] * len(numbers), pa.int32()),
        "LICENSE": ["?"] * len(numbers),
        "similarity": [0.3] * len(numbers),
    }
    write_parquet(path, pa.table(table))
    return path


def img2dataset(folder: Path, numbers: list[int], failed: int = 1) -> Path:
    """A pool of img2dataset's: two tables, the rows in no order, some not downloaded."""
    order = np.random.default_rng(0).permutation(numbers)
    half = len(order) // 2
    for shard, part in enumerate((order[:half], order[half:])):
        rows = [
            {
                "key": f"{shard:05d}{i:04d}", "url": url(n), "caption": f"text {n}",
                "status": "success", "sample_id": int(n),
            }
            for i, n in enumerate(part)
        ]  # fmt: skip
        rows += [
            {"key": f"{shard:05d}9{i:03d}", "url": url(900 + i), "caption": "x",
             "status": "failed_to_download", "sample_id": 900 + i}
            for i in range(failed)
        ]  # fmt: skip
        write_parquet(folder / f"{shard:05d}.parquet", pa.Table.from_pylist(rows))
        (folder / f"{shard:05d}_stats.json").write_text("{}")
    return folder


def by_url(pool: Path, out: Path) -> dict[str, int]:
    """Labels by URL, found through the keys."""
    urls = {
        r["key"]: r["url"]
        for table in sorted(pool.glob("*.parquet"))
        for r in pq.read_table(table).to_pylist()
    }
    return {urls[r["key"]]: r["label"] for r in read_labels(out).to_pylist()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Natural 0-9 (two files, 3 twice), rendition 10-14 and 5; 6 has another text."""
    folder = tmp_path / "LAION-Natural-Rendition"
    laion(folder / NATURAL / "part-00000.snappy.parquet", [0, 1, 2, 3, 3, 4])
    laion(folder / NATURAL / "part-00001.snappy.parquet", [5, 6, 7, 8, 9], {6: "another text"})
    laion(folder / RENDITION / "part-00000.snappy.parquet", [10, 11, 12, 13, 14, 5])
    laion(folder / "laion400m_mixed-meta" / "part-00000.snappy.parquet", [0, 10, 99])
    (folder / "README.md").write_text("card")
    return folder


def test_joined_on_url_and_text(data: Path, tmp_path: Path) -> None:
    pool = img2dataset(tmp_path / "pool", [0, 3, 5, 6, 10, 14, 30, 31])
    out = tmp_path / "labels.parquet"
    step_counts = released(data, SUBSETS, pool, out)
    assert by_url(pool, out) == {url(0): 0, url(3): 0, url(6): 0, url(10): 1, url(14): 1}
    assert step_counts["pool"] == {
        "rows": 8, "not_downloaded": 2, "without_url": 0, "matched": 5,
        "left_out_for_different_labels": 1, "only_half_equal": 0, "unmatched": 2,
        "matched_with_equal_values": 0, "matched_with_another_text": 1,
    }  # fmt: skip
    assert step_counts["released"] == {
        "rows": 17, "without_label": 0, "without_value": 0, "joined": 8, "joined_repeats": 2,
        "not_joined": 9, "rows_that_are_none": 0,
    }  # fmt: skip
    assert step_counts["labels"] == {"natural": 3, "rendition": 2, "ambiguous": 0}
    table = read_labels(out)
    assert pq.read_schema(out).equals(SCHEMA)
    assert table["key"].to_pylist() == sorted(table["key"].to_pylist())
    assert set(table["annotator"].to_pylist()) == {"released"}
    assert read_json(tmp_path / "labels.account.json") == step_counts


def test_project_tables_and_copies_of_a_url(data: Path, tmp_path: Path) -> None:
    rows = [
        row("laion", name, concept="c", locator=url(n), caption=f"text {n}")
        for name, n in (("a", 1), ("b", 1), ("c", 12), ("d", 77))
    ]
    write_table(tmp_path / "pool/00000.parquet", rows)
    out = tmp_path / "labels.parquet"
    step_counts = released(data, SUBSETS, tmp_path / "pool", out)
    assert read_labels(out).select(["key", "label", "concept", "source"]).to_pylist() == [
        {"key": f"laion-{n}", "label": label, "concept": "c", "source": "laion"}
        for n, label in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert step_counts["pool"]["matched_with_equal_values"] == 2


def test_sample_id_needs_an_equal_url_where_both_have_one(data: Path, tmp_path: Path) -> None:
    pool = img2dataset(tmp_path / "pool", [0, 6, 11])
    table = pq.read_table(pool / "00001.parquet").to_pylist()
    table.append(table[0] | {"key": "0000199999", "url": "https://example.org/other.jpg"})
    write_parquet(pool / "00001.parquet", pa.Table.from_pylist(table))
    out = tmp_path / "labels.parquet"
    step_counts = released(data, SUBSETS, pool, out, join="sample_id")
    assert by_url(pool, out) == {url(0): 0, url(6): 0, url(11): 1}
    assert step_counts["pool"]["only_half_equal"] == 1


def test_order_of_rows_and_files_changes_nothing(data: Path, tmp_path: Path) -> None:
    pool = img2dataset(tmp_path / "pool", list(range(0, 40, 2)))
    released(data, SUBSETS, pool, tmp_path / "one/labels.parquet")
    for folder in (data / NATURAL, data / RENDITION, pool):
        tables = sorted(folder.glob("*.parquet"))
        whole = pa.concat_tables([pq.read_table(t) for t in tables])
        for table in tables:
            table.unlink()
        mixed = whole.take(np.random.default_rng(1).permutation(len(whole)))
        cut = len(mixed) // 3
        write_parquet(folder / "z.parquet", mixed.slice(0, cut))
        write_parquet(folder / "a.parquet", mixed.slice(cut))
    released(data, SUBSETS[::-1], pool, tmp_path / "two/labels.parquet")
    for name in ("labels.parquet", "labels.account.json"):
        one, two = tmp_path / "one" / name, tmp_path / "two" / name
        assert one.read_bytes() == two.read_bytes()


def test_columns_of_other_names_and_what_is_missing(data: Path, tmp_path: Path) -> None:
    pool, out = img2dataset(tmp_path / "pool", [0, 1]), tmp_path / "labels.parquet"
    odd = data / "odd/part.parquet"
    write_parquet(odd, pa.table({"address": [url(0)], "words": ["text 0"]}))
    with pytest.raises(
        ClipshiftError, match=r"odd/part.parquet has no column for url .*address.*--column url=NAME"
    ):
        released(data, [Subset("odd", 0)], pool, out)
    with pytest.raises(ClipshiftError, match=r"no column for text .*--column text=NAME"):
        released(data, [Subset("odd", 0)], pool, out, columns={"url": "address"})
    with pytest.raises(ClipshiftError, match="there is no such column; it has"):
        released(data, [Subset("odd", 0)], pool, out, columns={"url": "nothing"})
    found = released(
        data, [Subset("odd", 0)], pool, out, columns={"url": "address", "text": "words"}
    )
    assert found["pool"]["matched"] == 1
    with pytest.raises(ClipshiftError, match=r"no subset 'natural'; it holds .*laion400m_natural"):
        released(data, [Subset("natural", 0)], pool, out)
    with pytest.raises(ClipshiftError, match=r"no subset '../pool'"):
        released(data, [Subset("../pool", 0)], pool, out)
    with pytest.raises(ClipshiftError, match=r"no column for label.*--subset odd=natural"):
        released(
            data, [Subset("odd", None)], pool, out, columns={"url": "address", "text": "words"}
        )
    write_parquet(data / "odd/second.parquet", pa.table({"URL": [url(1)]}))
    with pytest.raises(
        ClipshiftError, match=r"second.parquet and .*part.parquet differ in the columns"
    ):
        released(data, [Subset("odd", 0)], pool, out)
    odd.write_bytes(b"PAR1 no")
    with pytest.raises(ClipshiftError, match=r"part.parquet is not a readable parquet file"):
        released(data, [Subset("odd", 0)], pool, out)


def test_doubled_key_of_the_pool_is_refused(data: Path, tmp_path: Path) -> None:
    table = pa.table({"key": ["k", "k"], "url": [url(0), url(1)], "caption": ["text 0", "text 1"]})
    write_parquet(tmp_path / "pool/0.parquet", table)
    with pytest.raises(ClipshiftError, match="the key 'k' occurs twice"):
        released(data, SUBSETS, tmp_path / "pool", tmp_path / "labels.parquet")


def labelled_pictures(folder: Path, names: list[str] | None) -> Path:
    """Samples of a test set with human labels, as Hugging Face stores images and classes."""
    image = pa.array(
        [{"bytes": photo(n), "path": f"real_{n}.jpg"} for n in range(6)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "label": pa.array([0, 1, 2, 0, None, 1], pa.int64())})
    if names:
        features: dict[str, Any] = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    write_parquet(folder / "DomainNet/real-00000.parquet", table)
    return folder


@pytest.mark.parametrize(
    ("names", "expected"),
    [(None, [0, 1, 2, 0]), (["rendition", "natural", "ambigious"], [1, 0, 2, 1])],
)
def test_benchmark_labels_by_the_pictures(
    tmp_path: Path, names: list[str] | None, expected: list[int]
) -> None:
    data = labelled_pictures(tmp_path / "NvR", names)
    rows = [
        row("dn", f"s{n}", sha256=hashlib.sha256(photo(n)).hexdigest()) for n in (3, 4, 2, 1, 0, 9)
    ]
    write_table(tmp_path / "set/samples.parquet", rows)
    out = tmp_path / "labels.parquet"
    step_counts = released(data, [Subset("DomainNet", None)], tmp_path / "set", out, join="sha256")
    assert read_labels(out)["label"].to_pylist() == expected
    assert read_labels(out)["key"].to_pylist() == [f"dn-s{n}" for n in range(4)]
    assert step_counts["released"]["without_label"] == 1 and step_counts["pool"]["unmatched"] == 2


def test_benchmark_labels_by_file_name_from_json(tmp_path: Path) -> None:
    data = tmp_path / "NvR"
    (data / "ImageNet").mkdir(parents=True)
    labels = [
        {"file_name": "val/a.JPEG", "annotation": "natural"},
        {"file_name": "val/b.JPEG", "annotation": "stylistic"},
        {"file_name": "val/c.JPEG", "annotation": "unsure"},
    ]
    (data / "ImageNet/labels.json").write_text(json.dumps(labels))
    write_parquet(tmp_path / "set/0.parquet", pa.table({"key": ["val/b", "val/a", "val/z"]}))
    out = tmp_path / "labels.parquet"
    command = [
        sys.executable, "-m", "clipshift.apps.cli", "released", str(data), "--subset", "ImageNet",
        "--pool", str(tmp_path / "set"), "--out", str(out), "--join", "file",
    ]  # fmt: skip
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "'unsure'" in refused.stderr
    assert "--value unsure=natural" in refused.stderr and not out.exists()
    done = subprocess.run(
        [*command, "--value", "unsure=ambiguous"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 3 keys labelled" in done.stdout and "1 unmatched" in done.stdout
    assert [(r["key"], r["label"]) for r in read_labels(out).to_pylist()] == [
        ("val/a", 0), ("val/b", 1),
    ]  # fmt: skip


def test_a_list_of_ours_finds_the_labels_of_its_own_table(tmp_path: Path) -> None:
    """Blanks at the ends and other captions of a URL are no other pictures."""
    table = {"URL": ["http://a", "http://b", "http://c", "http://c"]}
    laion_table = pa.table(table | {"TEXT": ["a cat", "a dog ", "z", "a"]})
    theirs = tmp_path / "released/natural/part-00000.snappy.parquet"
    write_parquet(theirs, laion_table.slice(0, 3))
    write_parquet(tmp_path / "laion.parquet", laion_table)
    columns = ("URL", "TEXT")
    write_list("p", [tmp_path / "laion.parquet"], columns, 1, tmp_path / "pool/list.parquet")
    (tmp_path / "pool/list.json").unlink()
    counts = released(
        tmp_path / "released", [Subset("natural", 0)], tmp_path / "pool", tmp_path / "out.parquet"
    )["pool"]
    assert (counts["rows"], counts["matched"], counts["matched_with_another_text"]) == (3, 3, 1)


def test_text_decides_between_the_labels_of_a_url(data: Path, tmp_path: Path) -> None:
    laion(data / "more" / "part-00000.snappy.parquet", [0], {0: "another text"})
    subsets = [*SUBSETS, Subset("more", 1)]
    pool = img2dataset(tmp_path / "pool", [0, 3])
    released(data, subsets, pool, tmp_path / "labels.parquet")
    assert by_url(pool, tmp_path / "labels.parquet") == {url(0): 0, url(3): 0}


def test_labels_of_other_samples_are_refused(data: Path, tmp_path: Path) -> None:
    laion(data / "odd" / "part-00000.snappy.parquet", [1, 2], {1: "x", 2: "y"})
    pool = img2dataset(tmp_path / "pool", [1, 2])
    with pytest.raises(ClipshiftError, match=r"2 rows joined by url, only 0 have the same text"):
        released(data, [Subset("odd", 0)], pool, tmp_path / "labels.parquet")
    released(data, [Subset("odd", 0)], pool, tmp_path / "labels.parquet", agree=0)


def test_rows_of_a_csv_that_are_none_are_counted(tmp_path: Path) -> None:
    (tmp_path / "released").mkdir()
    (tmp_path / "released/a.csv").write_text('url,text,label\nhttp://1,"a, b",0\nhttp://2\n')
    write_parquet(
        tmp_path / "pool/0.parquet",
        pa.table({"key": ["k"], "url": ["http://1"], "caption": ["a, b"]}),
    )
    out = tmp_path / "labels.parquet"
    counts = released(tmp_path / "released", [Subset("a.csv", None)], tmp_path / "pool", out)
    assert (counts["pool"]["matched"], counts["released"]["rows_that_are_none"]) == (1, 1)
