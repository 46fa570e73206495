"""A running `clipshift label` for the tests: the real command in a process of its own."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from clipshift.apps.labelling.table import read_labels
from clipshift.datasets.shards import write_table, write_tar
from clipshift.datasets.tars import Sample
from tests.conftest import photo, row


def pool(root: Path, count: int = 60, broken: tuple[int, ...] = ()) -> Path:
    """A pool of one shard with keys p-00, p-01 ...; the images `broken` cannot be decoded."""
    rows = [row("p", f"{i:02d}", concept=f"c{i % 7}") for i in range(count)]
    samples = [
        Sample(r["key"], {"jpg": b"no image" if i in broken else photo(i, (48, 48))})
        for i, r in enumerate(rows)
    ]
    write_tar(root / "00000.tar", samples)
    write_table(root / "00000.parquet", rows)
    return root


class Page:
    """The command, started; `url` ends with a slash."""

    def __init__(self, images: Path, out: Path, *options: object, annotator: str = "ann") -> None:
        self.out = out
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "clipshift.apps.cli", "label", "--images", str(images),
                "--out", str(out), "--annotator", annotator, *map(str, options),
            ],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = ""
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line
            if line.startswith("every label"):
                break
        found = re.search(r"http://\S+?/[\w-]+/", self.said)
        assert found, self.said
        self.url = found.group()
        self.annotator = annotator

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    @property
    def token(self) -> str:
        return urlsplit(self.url).path.strip("/")

    def kill(self) -> None:
        """As the kernel would: no chance to write anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def stop(self) -> dict[tuple[str, str | None], int]:
        """As Ctrl-C; returns the labels of the table by key and annotator."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return labels(self.out)

    def ask(
        self, path: str, body: Any = None, host: str | None = None, method: str | None = None,
        **headers: str,
    ) -> tuple[int, bytes, dict[str, str]]:  # fmt: skip
        """A raw request; `path` is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        method = method or ("GET" if body is None else "POST")
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(data if body is not None else None)
        answer = connection.getresponse()
        found = answer.status, answer.read(), dict(answer.getheaders())
        connection.close()
        return found

    def state(self, view: str = "label", page: int = 0) -> dict[str, Any]:
        query = urlencode({"view": view, "page": page, "annotator": self.annotator})
        status, data, _ = self.ask(f"/{self.token}/api/page?{query}")
        assert status == 200
        found: dict[str, Any] = json.loads(data)
        return found

    def label(self, key: str, label: Any, expected: Any = None, request: str = "") -> int:
        body = {
            "view": "label", "annotator": self.annotator, "key": key, "label": label,
            "expected": expected, "id": request or f"{self.annotator}-{key}-{label}",
        }  # fmt: skip
        return self.ask(f"/{self.token}/api/label", body)[0]


def labels(out: Path) -> dict[tuple[str, str | None], int]:
    if not out.exists():  # there was no label yet
        return {}
    return {(r["key"], r["annotator"]): r["label"] for r in read_labels(out).to_pylist()}
