"""Downloads with the real img2dataset from a server on loopback: what became of each URL."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, sha256_bytes, sha256_file
from clipshift.datasets.shards import url_hash
from clipshift.datasets.tars import read_tar
from clipshift.datasets.urls import fetch, listing, placeholders, shard
from clipshift.study.config.urls import Fetching, UrlPool
from tests.web_case import REMOVED, Web, served

needs_img2dataset = pytest.mark.skipif(
    not os.environ.get("CLIPSHIFT_NEEDS_IMG2DATASET")
    and not (Path(__file__).parents[2] / ".venv-img2dataset/bin/python").exists(),
    reason="`make img2dataset` makes its environment; CLIPSHIFT_NEEDS_IMG2DATASET=1 fails instead",
)
HOW = Fetching(px=32, timeout=3, threads=8, max_bytes=200_000, block=10, allow=["127.0.0.1/32"])
# path -> why it gives no image (None: it does)
ANSWERS: dict[str, str | None] = (
    {f"photo/{i}.jpg": None for i in range(12)}
    | {f"moved/photo/m{i}.jpg": None for i in range(2)}
    | {f"removed/{i}.jpg": placeholders.REASON for i in range(4)}
    | {f"missing/{i}": "HTTP 404" for i in range(3)}
    | {"error/500": "HTTP 500", "page/a": "not an image", "liar/a.jpg": "not an image"}
    | {"short/a.jpg": "truncated", "cut/a.jpg": "truncated", "large/a.jpg": "too large"}
    | {"silent/a.jpg": "timeout", "dribble/a.jpg": "timeout", "loop/a": "redirects without end"}
    | {"elsewhere/photo/e.jpg": "refused: loopback address"}
    | {"file/a": "refused: redirect to another scheme"}
    | {"noai/a.jpg": "disallowed by X-Robots-Tag"}
)


@pytest.fixture
def web() -> Iterator[Web]:
    with served() as web:
        yield web


def write_urls(web: Web, folder: Path, paths: Any = ANSWERS) -> Path:
    """A list as others make it: with rows that are no URLs, and one URL twice."""
    rows = [{"url": web.url(path), "caption": f"it shows {path}"} for path in paths]
    rows += [{"url": f" {rows[0]['url']} ", "caption": "a caption before it"}]
    rows += [{"url": "", "caption": "x"}, {"url": "ftp://a/b.jpg", "caption": "y"}]
    rows += [{"url": "http://10.0.0.1/private.jpg", "caption": "z"}]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "urls.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["caption", "url"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "urls.csv"


def make_list(file: Path, folder: Path, shards: int = 2) -> Path:
    listing.write_list("web", [file], ("url", "caption"), shards, folder / "list.parquet")
    return folder / "list.parquet"


def download(urls: Path, folder: Path, how: Fetching = HOW, shards: int = 2) -> dict[str, Any]:
    """The three steps after the list; counts summed, samples by key."""
    for i in range(shards):
        out = folder / f"fetched/{i:05d}.parquet"
        fetch.fetch(urls, i, how, folder / f"work/{i:05d}", out)
    tables = [folder / f"fetched/{i:05d}.parquet" for i in range(shards)]
    placeholders.find([str(t) for t in tables], 4, folder / "placeholders.parquet")
    total: Counter[str] = Counter()
    samples = {}
    for i, table in enumerate(tables):
        tar = folder / f"pool/{i:05d}.tar"
        place = folder / f"work/{i:05d}"
        mark = folder / "placeholders.parquet"
        shard.write_shard("web", urls, i, table, mark, place, tar)
        step_counts = StepCounts.from_json(read_json(tar.with_suffix(".json"))["account"])
        total += step_counts.rejected + Counter(
            {"in": step_counts.came_in, "out": step_counts.went_out}
        )
        samples |= {s.key: s for s in read_tar(tar)}
    return {"total": total, "samples": samples}


def files(folder: Path) -> dict[str, str]:
    return {f.name: sha256_file(f) for f in sorted((folder / "pool").iterdir())}


@needs_img2dataset
def test_every_url_is_accounted_for(web: Web, tmp_path: Path) -> None:
    urls = make_list(write_urls(web, tmp_path), tmp_path)
    assert read_json(tmp_path / "list.json")["rejected"] == {
        "listed twice": 1, "no URL": 1, "not http or https": 1,
    }  # fmt: skip
    found = download(urls, tmp_path)
    expected = Counter(why or "out" for why in ANSWERS.values())
    expected |= Counter({"in": len(ANSWERS) + 1, "refused: private address": 1})
    assert found["total"] == expected
    # Each image has the caption of its URL.
    for path in (path for path, why in ANSWERS.items() if why is None):
        parts = found["samples"][url_hash(web.url(path))].parts
        first = path == "photo/0.jpg"
        assert parts["txt"].decode() == ("a caption before it" if first else f"it shows {path}")
    # Nobody was asked twice, but for what sends to itself.
    assert {path for path, n in web.asked.items() if n > 1} == {"loop/a"}
    record = read_json(tmp_path / "placeholders.json")
    assert [(p["urls"], p["sha256"]) for p in record["placeholders"]] == [
        (4, sha256_bytes(REMOVED))
    ]
    table = read_parquet(tmp_path / "pool/00000.parquet").to_pylist()
    assert [r["key"] for r in table] == sorted(r["key"] for r in table)
    assert all(r["url_hash"] == r["key"] == url_hash(r["locator"]) for r in table)


@needs_img2dataset
def test_a_second_run_asks_only_for_what_failed(web: Web, tmp_path: Path) -> None:
    web.gone = {"photo/3.jpg", "photo/7.jpg"}
    urls = make_list(write_urls(web, tmp_path), tmp_path)
    first = download(urls, tmp_path)
    assert first["total"]["HTTP 404"] == 5
    web.gone = set()
    web.asked.clear()
    # A second run that was killed as soon as it began.
    (tmp_path / "work/00001/attempt-001").mkdir()
    (tmp_path / "work/00001/attempt-001/.todo.parquet.x.part").touch()
    second = download(urls, tmp_path)
    failed = {path for path, why in ANSWERS.items() if why and why != placeholders.REASON}
    assert web.asked.keys() == failed | {"photo/3.jpg", "photo/7.jpg"}
    assert second["total"]["HTTP 404"] == 3
    assert second["total"]["out"] == first["total"]["out"] + 2
    # The same as if all had been well at once.
    urls = make_list(write_urls(web, tmp_path / "b"), tmp_path / "b")
    download(urls, tmp_path / "b")
    assert files(tmp_path) == files(tmp_path / "b")


@needs_img2dataset
def test_a_killed_download_goes_on_and_gives_the_same_bytes(web: Web, tmp_path: Path) -> None:
    paths = [f"photo/{i}.jpg" for i in range(60)]
    urls = make_list(write_urls(web, tmp_path, paths), tmp_path, shards=1)
    work, out = tmp_path / "work/00000", tmp_path / "fetched/00000.parquet"
    params = {"urls": urls, "shard": 0, "fetching": HOW.model_dump(), "work": work, "out": out}
    process = subprocess.Popen(
        [sys.executable, "-m", "clipshift.core.step", "datasets.urls.fetch.fetch"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdin
    with process.stdin as stream:
        json.dump({"files": {}, "params": params}, stream, default=str)
    deadline = time.monotonic() + 60
    while not list(work.glob("attempt-000/*_stats.json")):
        assert process.poll() is None, "the download ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # img2dataset ends with it
    done = {f.name for f in work.glob("attempt-000/*_stats.json")}
    assert not out.exists()
    before = web.asked.copy()
    time.sleep(0.5)
    assert web.asked == before  # nobody goes on asking
    download(urls, tmp_path, shards=1)
    again = {path for path, n in web.asked.items() if n > 1}
    finished = {
        r["url"]
        for name in done
        for r in read_parquet(
            work / "attempt-000" / name.replace("_stats.json", ".parquet"), ["url"]
        ).to_pylist()
    }
    assert not {web.url(path) for path in again} & finished
    other = make_list(write_urls(web, tmp_path / "b", paths), tmp_path / "b", shards=1)
    download(other, tmp_path / "b", shards=1)
    assert files(tmp_path) == files(tmp_path / "b")


@needs_img2dataset
def test_urls_that_are_added_are_fetched_and_no_others(web: Web, tmp_path: Path) -> None:
    paths = [f"photo/{i}.jpg" for i in range(8)]
    urls = make_list(write_urls(web, tmp_path, paths), tmp_path)
    download(urls, tmp_path)
    web.asked.clear()
    urls = make_list(write_urls(web, tmp_path, [*paths, "photo/new.jpg"]), tmp_path)
    found = download(urls, tmp_path)
    assert web.asked == {"photo/new.jpg": 1}
    assert found["total"]["out"] == 9


@needs_img2dataset
def test_lost_answers_are_an_error(web: Web, tmp_path: Path) -> None:
    urls = make_list(write_urls(web, tmp_path, ["photo/1.jpg"]), tmp_path, shards=1)
    download(urls, tmp_path, shards=1)
    next((tmp_path / "work/00000/attempt-000").glob("*.tar")).write_bytes(b"")
    table, mark = tmp_path / "fetched/00000.parquet", tmp_path / "placeholders.parquet"
    with pytest.raises(ClipshiftError, match=r"is not readable.*delete .*work/00000 and fetch"):
        shard.write_shard(
            "web", urls, 0, table, mark, tmp_path / "work/00000", tmp_path / "pool/00000.tar"
        )


@needs_img2dataset
def test_a_folder_that_img2dataset_wrote_by_itself_is_a_pool(web: Web, tmp_path: Path) -> None:
    """The other way: its own program, its own layout, read where it is (`folder_pool`)."""
    from clipshift.datasets import external_pool

    urls = write_urls(web, tmp_path, ["photo/1.jpg", "missing/1", "photo/2.jpg", "page/1"])
    words = {
        "url_list": urls, "input_format": "csv", "url_col": "url", "caption_col": "caption",
        "output_format": "webdataset", "output_folder": tmp_path / "web", "image_size": 32,
        "number_sample_per_shard": 4, "thread_count": 4, "timeout": 5,
    }  # fmt: skip
    program = fetch.find_python().with_name("img2dataset")
    subprocess.run(
        [str(program), *(f"--{k}={v}" for k, v in words.items())],
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONPATH": ""},
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    tars = [tmp_path / f"web/0000{i}.tar" for i in range(2)]
    step_counts = external_pool.write_group("w", tars, tmp_path / "out/00000.parquet")
    assert (step_counts.came_in, step_counts.went_out) == (8, 3)  # one URL is listed twice
    assert step_counts.rejected == {"failed_to_download": 4, "failed_to_resize": 1}
    captions = read_parquet(tmp_path / "out/00000.parquet")["caption"].to_pylist()
    assert sorted(captions) == [
        "a caption before it", "it shows photo/1.jpg", "it shows photo/2.jpg",
    ]  # fmt: skip


def test_the_list_depends_on_neither_order_nor_form(tmp_path: Path) -> None:
    rows = [{"TEXT": f"t{i}", "URL": f"https://a/{i % 40}.jpg"} for i in range(50)]
    lines = "".join(f"{row['URL']},{row['TEXT']}\n" for row in rows)
    (tmp_path / "a.csv").write_text(f"URL,TEXT\n{lines}")
    pq.write_table(pa.Table.from_pylist(rows[::-1]), tmp_path / "b.parquet")
    columns = ("URL", "TEXT")
    for name in ("a.csv", "b.parquet"):
        listing.write_list("x", [tmp_path / name], columns, 3, tmp_path / f"{name}.list.parquet")
    assert sha256_file(tmp_path / "a.csv.list.parquet") == sha256_file(
        tmp_path / "b.parquet.list.parquet"
    )
    whole = read_parquet(tmp_path / "a.csv.list.parquet")
    assert (len(whole), set(whole["shard"].to_pylist())) == (40, {0, 1, 2})
    one = listing.read_shard(tmp_path / "a.csv.list.parquet", 1).to_pylist()
    assert [row["key"] for row in one] == sorted(url_hash(row["url"]) for row in one)
    assert read_json(tmp_path / "a.csv.list.json")["rejected"] == {"listed twice": 10}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("link,caption\nhttp://a,b\n", r"lacks the columns \['url'\]; it has .*'link'"),
        ("url,caption\nftp://a,b\n", "no URL in the column 'url'"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ClipshiftError, match=message):
        make_list(tmp_path / "a.csv", tmp_path)
    assert not (tmp_path / "list.parquet").exists()
    (tmp_path / "b.parquet").write_bytes(b"torn")
    with pytest.raises(ClipshiftError, match=r"b\.parquet is not a readable parquet file"):
        make_list(tmp_path / "b.parquet", tmp_path)


def test_placeholders_are_a_choice(tmp_path: Path) -> None:
    rows = [
        {"url": f"u{i}", "sha256": "aa" if i < 3 else f"b{i}", "reason": None if i else "HTTP 404"}
        for i in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    for least, found in ((2, 1), (3, 0), (None, 0)):  # one of the three has no image
        placeholders.find([str(tmp_path / "t.parquet")], least, tmp_path / "p.parquet")
        record = read_json(tmp_path / "p.json")
        assert record["found"] == found
    assert record["repeated_below"] == 1


def test_configuration_of_a_list() -> None:
    with pytest.raises(ValueError, match=r"ends in none of \.parquet, \.csv"):
        UrlPool(urls=["a.xlsx"], shards=1)
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        Fetching(allow=["localhost"])


def test_a_missing_environment_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(fetch.PYTHON, str(tmp_path / "python"))
    with pytest.raises(ClipshiftError, match="`make img2dataset` makes"):
        fetch.find_python()
