"""The page's server: what it serves, and everything that it refuses."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from clipshift.apps.labelling.options import check_host
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from tests.conftest import photo
from tests.label_case import Page, labels, pool


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    root = tmp_path_factory.mktemp("server")
    images = pool(root / "pool", 30, broken=(3,))
    (root / "secret.png").write_bytes(photo(1, kind="PNG"))
    started = Page(images, root / "labels.parquet", "--port", 0)
    yield started
    if started.process.poll() is None:
        started.stop()


def test_listens_on_loopback_only(page: Page) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    address = subprocess.run(
        ["hostname", "-I"], capture_output=True, text=True, check=False
    ).stdout.split()
    for own in address:
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        with socket.socket(family) as probe, pytest.raises(OSError):
            probe.settimeout(2)
            probe.connect((own, page.port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_addresses_need_a_flag(tmp_path: Path, host: str) -> None:
    with pytest.raises(ClipshiftError, match="--allow-remote"):
        check_host(host, allow_remote=False)
    check_host(host, allow_remote=True)
    done = subprocess.run(
        [
            sys.executable, "-m", "clipshift.apps.cli", "label",
            "--images", str(pool(tmp_path / "p", 1)), "--out", str(tmp_path / "l.parquet"),
            "--host", host,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "would let other machines see" in done.stderr
    assert not list(tmp_path.glob("l.parquet*"))


def test_told_so_it_listens_elsewhere(tmp_path: Path) -> None:
    options = ("--port", 0, "--host", "0.0.0.0", "--allow-remote")
    started = Page(pool(tmp_path / "pool", 2), tmp_path / "l.parquet", *options)
    assert started.ask(f"/{started.token}/")[0] == 200
    assert started.ask(f"/{started.token}/", host="192.0.2.7:80")[0] == 200
    assert started.ask(f"/{started.token}/", host="evil.example")[0] == 403
    assert started.stop() == {}


def test_page_and_its_parts(page: Page) -> None:
    for name, kind in (
        ("", "text/html"),
        ("label.js", "text/javascript"),
        ("label.css", "text/css"),
    ):
        status, data, headers = page.ask(f"/{page.token}/{name}")
        assert status == 200 and data and headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
    status, data, headers = page.ask(f"/{page.token}/image?key=p-00")
    assert status == 200 and data[:2] == b"\xff\xd8" and headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0"]
)
def test_foreign_host_is_refused(page: Page, host: str) -> None:
    status, data, _ = page.ask(f"/{page.token}/", host=host)
    assert status == 403 and b"not the address of this page" in data
    status, _, _ = page.ask(f"/{page.token}/api/undo", {"view": "label"}, host=host)
    assert status == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:9000", "[::1]:8421"])
def test_tunnel_is_accepted(page: Page, host: str) -> None:
    assert page.ask(f"/{page.token}/", host=host)[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/wrong/image?key=p-00", "/label.js", "", "//", "*"]
)
def test_token_is_needed(page: Page, path: str) -> None:
    status, data, _ = page.ask(path)
    assert status in (400, 403) and page.token.encode() not in data


def test_token_is_its_owners(page: Page) -> None:
    path = page.out.with_name("labels.parquet.token")
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_text() == page.token


@pytest.mark.parametrize(
    "key",
    [
        "../secret.png", "../../secret.png", "..%2f..%2fsecret.png", "/etc/passwd", "00000.tar",
        "00000.parquet", "../labels.parquet", "p-00/../p-01", "p-00\0", "", ".", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_only_keys_of_the_pool_are_served(page: Page, key: str) -> None:
    for asked in (quote(key, safe=""), key.replace("\0", "%00")):
        status, data, _ = page.ask(f"/{page.token}/image?key={asked}")
        assert status == 404 and b"no image of this pool" in data
    assert page.label(key, 0) == 422


@pytest.mark.parametrize(
    "path",
    ["../secret.png", "..%2fsecret.png", "./../../etc/passwd", "//etc/passwd", "label.html.j2",
     "data/label.css", "label.css/..", "image/p-00", "api", "audit.css"],
)  # fmt: skip
def test_no_path_names_a_file(page: Page, path: str) -> None:
    status, data, _ = page.ask(f"/{page.token}/{path}")
    assert status == 404 and b"no such page" in data


def test_other_origins_and_forms_are_refused(page: Page) -> None:
    body = {
        "view": "label", "annotator": "ann", "key": "p-01", "label": 0, "expected": None, "id": "x",
    }  # fmt: skip
    path = f"/{page.token}/api/label"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://localhost"):
        assert page.ask(path, body, Origin=origin)[0] == 403
    data = json.dumps(body).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert page.ask(path, data, Content_Type=kind)[0] == 415
    assert page.state()["items"][1]["label"] is None
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
        assert page.ask(path, method=method)[0] == 501


def test_malformed_requests_change_nothing(page: Page) -> None:
    path = f"/{page.token}/api/label"
    good = {
        "view": "label", "annotator": "ann", "key": "p-02", "label": 0, "expected": None, "id": "y",
    }  # fmt: skip
    for wrong in (
        {"label": 3}, {"label": -1}, {"label": "0"}, {"label": True}, {"label": 0.0},
        {"expected": 7}, {"view": "agreement"}, {"annotator": "eve"}, {"annotator": "adjudicated"},
    ):  # fmt: skip
        assert page.ask(path, good | wrong)[0] == 400, wrong
    for field in good:
        assert page.ask(path, {k: v for k, v in good.items() if k != field})[0] == 400, field
    for data in (b"", b"[]", b"{", b"\xff"):
        assert page.ask(path, data)[0] == 400
    assert page.ask(path, b" " * 70_000)[0] == 413
    assert page.ask(path, good, Content_Length="-1")[0] == 413
    for query in ("view=label&page=x&annotator=ann", "view=x&page=0&annotator=ann", "view=label"):
        assert page.ask(f"/{page.token}/api/page?{query}")[0] == 400
    assert page.ask(f"/{page.token}/?annotator=eve")[0] == 400
    assert page.state()["items"][2]["label"] is None


def test_undecodable_picture_is_shown_as_such_and_gets_no_label(page: Page) -> None:
    found = page.state()
    assert found["items"][3]["broken"] == "undecodable image"
    assert found["progress"]["undecodable"] == 1
    assert page.label("p-03", 0) == 422
    assert page.ask(f"/{page.token}/image?key=p-03")[0] == 422


def test_label_is_on_the_disk_and_soon_in_the_table(page: Page) -> None:
    assert page.label("p-05", 1, request="first") == 200
    assert b'"p-05"' in page.out.with_name("labels.parquet.journal").read_bytes()
    assert page.label("p-05", 2, expected=None) == 409  # it is 1 by now
    assert page.label("p-05", 1, request="first") == 200  # a repeated request
    assert page.label("p-06", 1, request="first") == 400  # another one of that name
    deadline = time.monotonic() + 10
    while ("p-05", "ann") not in labels(page.out):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    step_counts = read_json(page.out.with_name("labels.account.json"))
    assert step_counts["account"]["in"] == 30 and step_counts["labels"]["ann"]["rendition"] == 1
    assert step_counts["undecodable"] in ({}, {"p-03": "undecodable image"})


def test_moved_journal_is_told_and_nothing_acknowledged(tmp_path: Path) -> None:
    started = Page(pool(tmp_path / "pool", 3), tmp_path / "labels.parquet", "--port", 0)
    assert started.label("p-00", 1) == 200
    journal = tmp_path / "labels.parquet.journal"
    journal.rename(tmp_path / "away")
    assert started.label("p-01", 1) == 507
    (tmp_path / "away").rename(journal)
    assert started.label("p-01", 1) == 200
    assert started.stop() == {("p-00", "ann"): 1, ("p-01", "ann"): 1}


def test_two_servers_of_one_file_lose_nothing(tmp_path: Path) -> None:
    images, out = pool(tmp_path / "pool", 30), tmp_path / "labels.parquet"
    one = Page(images, out, "--port", 0)
    two = Page(images, out, "--port", 0, annotator="ben")
    for i in range(20):
        assert one.label(f"p-{i:02d}", i % 3) == 200
        assert two.label(f"p-{i:02d}", (i + i // 10) % 3) == 200
    assert one.state("disagreements")["disputed"] == 10
    two.kill()
    assert one.label("p-20", 0) == 200
    found = one.stop()
    assert len(found) == 41 and found["p-15", "ben"] == 16 % 3


def test_taken_port_is_said_so(page: Page, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "clipshift.apps.cli", "label",
            "--images", str(pool(tmp_path / "p", 1)), "--out", str(tmp_path / "l.parquet"),
            "--port", str(page.port),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "Give another --port" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "POOL"], "give --out FILE"),
        (["--images", "POOL", "--out", "x.csv"], "NAME.parquet"),
        (["--images", "absent", "--out", "x.parquet"], "is no folder"),
        (["--images", "POOL", "--out", "x.parquet", "--sample", "0"], "at least 1"),
        (["--images", "POOL", "--out", "x.parquet", "--annotator", "consensus"], "is kept for"),
        (["--images", "POOL", "--out", "x.parquet", *["--annotator", "a"] * 2], "given twice"),
        (["--images", "POOL", "--out", "x.parquet", "--annotator", " "], "expected a name"),
        (["--images", "POOL", "--out", "x.parquet", "--score-column", "s"], "of --scores"),
        (["--images", "POOL", "--out", "x.parquet", "--scores", "absent"], "no parquet file"),
        (["--images", "POOL", "--out", "x.parquet", "--order", "uncertain"], "needs --scores"),
        (["--images", "POOL", "--out", "x.parquet", "--threshold", "1"], "is for --order"),
        (["--consensus", "l.parquet"], "--consensus needs --out"),
        (["--agreement", "l.parquet"], "l.parquet is no file"),
    ],
)  # fmt: skip
def test_options_are_checked(tmp_path: Path, options: list[str], message: str) -> None:
    pool(tmp_path / "POOL", 1)
    done = subprocess.run(
        [sys.executable, "-m", "clipshift.apps.cli", "label", *options],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1 and message in done.stderr, done.stderr


def test_agreement_and_consensus_by_command(tmp_path: Path) -> None:
    out = tmp_path / "labels.parquet"
    images = pool(tmp_path / "pool", 6)
    started = Page(images, out, "--port", 0, "--annotator", "ben")
    for i in range(6):
        assert started.label(f"p-{i:02d}", i % 3) == 200
    started.annotator = "ben"
    for i in range(5):
        assert started.label(f"p-{i:02d}", 0 if i == 4 else i % 3, request=f"ben{i}") == 200
    started.stop()
    words = [sys.executable, "-m", "clipshift.apps.cli", "label"]
    told = subprocess.run(
        [*words, "--agreement", str(out), "--out", str(tmp_path / "agreement.json")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "6 images, 5 with several labels, 1 with different ones" in told
    assert "Cohen's kappa ann - ben: 0.688 (95 % interval" in told
    assert read_json(tmp_path / "agreement.json")["pairs"][0]["n"] == 5
    one = tmp_path / "consensus.parquet"
    told = subprocess.run(
        [*words, "--consensus", str(out), "--out", str(one)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "ties (label ambiguous): p-04" in told
    expected = {(f"p-{i:02d}", "consensus"): 2 if i == 4 else i % 3 for i in range(6)}
    assert labels(one) == expected
    for what in ("--consensus", "--agreement"):
        same = subprocess.run(
            [*words, what, str(out), "--out", str(out)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert same.returncode == 1 and "is the table itself" in same.stderr
        assert len(labels(out)) > 6  # as before
