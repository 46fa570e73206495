"""A pool in object storage, by real Snakemake and its S3 plugin, from moto's server on loopback."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
import yaml

from clipshift.core.files import read_parquet
from clipshift.datasets.object_storage import HOME
from tests.folder_case import write_pool, write_set
from tests.workflow.runner import digests, planned, snakemake
from tests.workflow.test_folders import SPLIT, STUDY

pytestmark = pytest.mark.skipif(
    not os.environ.get("CLIPSHIFT_NEEDS_STORAGE") and not (HOME / "installed").exists(),
    reason="`make storage` installs the plugin; CLIPSHIFT_NEEDS_STORAGE=1 fails instead",
)

PLACE = "s3://images/laion/web"
POOL = {"storage": PLACE, "tars": 5, "shards": 2, "samples": 14, "gaps": [2]}
EMBEDDED = "results/embeddings/fold_lite0/fold_pool/account/account_00000.json"
TABLES = "results/pools/fold_pool/*"
VECTORS = "results/embeddings/fold_lite0/fold_pool/**/*"
FETCHED = "Retrieving from storage: "


@dataclass
class Storage:
    """A server with one bucket, and the user's folder that was uploaded to it."""

    url: str
    folder: Path

    @property
    def words(self) -> tuple[str, ...]:
        return ("--storage-s3-endpoint-url", self.url, "--")

    def send(self, key: str, content: bytes = b"", method: str = "PUT") -> None:
        # Without a signature; the default type is that of a form, which the server would parse.
        about = {"x-amz-acl": "public-read-write", "Content-Type": "application/octet-stream"}
        urlopen(Request(f"{self.url}/{key}", content, about, method=method), timeout=30).close()

    def upload(self) -> None:
        for file in self.folder.iterdir():
            self.send(f"{PLACE.removeprefix('s3://')}/{file.name}", file.read_bytes())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = write_pool(tmp_path_factory.mktemp("storage") / "web", {0: 4, 1: 3, 3: 2, 4: 5})
    write_set(folder.parent / "ref", [0, 1] * 3, split="train", seed=50)
    write_set(folder.parent / "val", [0, 1, 1, 0], seed=70)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HOME), prepend=os.pathsep)
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # nobody is asked for credentials
        log = folder.parent / "server.log"
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        with log.open("w") as stream, subprocess.Popen(words, stderr=stream) as server:
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            made = Storage(found[0], folder)
            made.send(PLACE.split("/")[2])
            made.upload()
            yield made
            server.terminate()


def study(folder: Path, pool: dict[str, Any], **change: Any) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | {"pools": {"fold_pool": pool}} | change))
    return file


def fetched(output: str) -> set[str]:
    """What Snakemake says that it fetched."""
    lines = output.splitlines()
    return {line.split(FETCHED)[1].split()[0] for line in lines if FETCHED in line}


def objects(numbers: list[int], *suffixes: str) -> set[str]:
    return {f"{PLACE}/{number:05d}{suffix}" for number in numbers for suffix in suffixes}


def without_hashes(table: Path) -> pa.Table:
    rows = read_parquet(table)
    return rows.select([name for name in rows.column_names if not name.startswith("sha256")])


def same_files(stored: Path, local: Path, *patterns: str) -> None:
    """The same bytes, but for hashes: no image is fetched for the table of a stored tar."""
    names = digests(stored, *patterns)
    local_names = digests(local, *patterns)
    assert names.keys() <= local_names.keys()
    for name in names:
        if name.endswith(".parquet"):
            a, b = (without_hashes(place / name) for place in (stored, local))
            assert a == b and a.num_rows > 0
        else:
            assert names[name] == local_names[name]


def test_the_same_bytes_as_from_the_folder(storage: Storage, tmp_path: Path) -> None:
    config = study(tmp_path, POOL)
    assert planned(tmp_path, *storage.words, EMBEDDED, config=config) == {
        "folder_pool": 1,
        "embed": 1,
    }
    done = snakemake(tmp_path, *storage.words, EMBEDDED, config=config)
    assert fetched(done.stdout) == objects([0, 1], ".tar", ".parquet", "_stats.json")
    assert not list((tmp_path / ".snakemake/storage").rglob("*.tar"))  # room for the next group

    local = tmp_path / "local"
    local.mkdir()
    data = f"data={storage.folder.parent}"
    own = study(local, STUDY["pools"]["fold_pool"])
    snakemake(local, "--config", data, "--", EMBEDDED, config=own)
    same_files(tmp_path, local, TABLES, VECTORS)

    # Neither a second run nor newer objects.
    storage.upload()
    assert planned(tmp_path, *storage.words, EMBEDDED, config=config) == {}
    again = snakemake(tmp_path, *storage.words, EMBEDDED, config=config)
    assert not fetched(again.stdout)
    # A gap in a group; its table needs no tar. Elsewhere is no other pool: nothing is made again.
    table = "results/pools/fold_pool/00001.parquet"
    words = ("--local-storage-prefix", str(tmp_path / "scratch"), *storage.words)
    done = snakemake(tmp_path, *words, table, EMBEDDED, config=config)
    assert fetched(done.stdout) == objects([3, 4], ".parquet", "_stats.json")
    snakemake(local, "--config", data, "--", table, config=own)
    same_files(tmp_path, local, TABLES)


def test_a_training_reads_every_tar(storage: Storage, tmp_path: Path) -> None:
    pipe = STUDY["models"]["fold_nano"] | {"read": "filter"}
    config = study(tmp_path, POOL, models={"fold_pipe": pipe}, model="fold_pipe")
    target = "results/models/fold_far-fold_pipe-s0/model.pt"
    done = snakemake(tmp_path, "--dry-run", *storage.words, target, config=config)
    job = done.stdout.split("rule train:")[1].split("\n\n")[0]
    assert all(name in job for name in objects([0, 1, 3, 4], ".tar")), job
    assert ".tar" not in done.stdout.split("rule folder_pool:")[1].split("output:")[0]
    assert "external_data" in done.stdout  # of the sets, which are folders
    assert planned(tmp_path, *storage.words, SPLIT, config=config)["embed"] == 4


def test_a_missing_object_is_named(storage: Storage, tmp_path: Path) -> None:
    config = study(tmp_path, POOL | {"gaps": []})
    words = ("--dry-run", *storage.words, SPLIT)
    done = snakemake(tmp_path, *words, config=config, check=False)
    assert done.returncode != 0
    assert "Missing input files for rule folder_pool" in done.stdout
    for name in objects([2], ".parquet", "_stats.json"):
        assert name in done.stdout
    assert f"{PLACE}/00003" not in done.stdout


@contextmanager
def strict(storage: Storage) -> Iterator[str]:
    """The same server, while it knows nobody's keys."""
    storage.send("moto-api/reset-auth", b"0", "POST")
    yield storage.url
    storage.send("moto-api/reset-auth", b"inf", "POST")


@contextmanager
def silent(storage: Storage) -> Iterator[str]:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("place", "key", "endpoint", "message"),
    [
        (PLACE, None, None, "without credentials; set AWS_ACCESS_KEY_ID and"),
        (PLACE, "stranger", strict, "the credentials are wrong, or may not list it"),
        (PLACE, "someone", silent, "Could not connect to the endpoint URL"),
        ("s3://elsewhere/web", "someone", None, "there is no such bucket"),
    ],
)
def test_what_stands_in_the_way_is_said_once(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str,
    key: str | None, endpoint: Callable[[Storage], Any] | None, message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    if key:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    config = study(tmp_path, POOL | {"storage": place})
    with endpoint(storage) if endpoint else nullcontext(storage.url) as url:
        words = ("--dry-run", "--storage-s3-endpoint-url", url, "--", EMBEDDED)
        done = snakemake(tmp_path, *words, config=config, check=False)
    assert done.returncode != 0
    assert done.stdout.count(f"pools.fold_pool.storage: the bucket {place.split('/')[2]}") == 1
    assert message in done.stdout
    assert "Missing input files" not in done.stdout
