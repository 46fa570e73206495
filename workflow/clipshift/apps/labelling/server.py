"""The page's server: Python's own, on loopback, with a token in every address.

Whoever may reach the port is stopped by the token (other users of the machine, pages of other
origins), by the Host header (a name that an attacker points to 127.0.0.1), and by what is served:
three documents and the images of the catalogue by their keys. No path of a request ever names a
file.
"""

import hmac
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment

from clipshift.apps.labelling.options import is_loopback
from clipshift.apps.labelling.store import Conflict
from clipshift.apps.labelling.table import LABELS
from clipshift.apps.labelling.views import SIDES, SIZE, Views
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json

LONGEST_BODY = 64 << 10  # bytes
WRITE_DELAY = 1.0  # seconds from a label to the table that holds it
WRITE_SHARE = 0.1  # of the time, at most, is spent on writing it
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
STATIC = {"label.css": "text/css", "label.js": "text/javascript"}


@dataclass(eq=False)
class Failure(Exception):
    """An answer that is no success, with what the page tells its user."""

    status: HTTPStatus
    message: str
    more: tuple[tuple[str, Any], ...] = ()


def token_of(out: Path) -> str:
    """The token of an output file: made once, readable by its owner only, so that an open page goes
    on after its server was started again."""
    path = out.with_name(f"{out.name}.token")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        token = path.read_text()
        if path.stat().st_mode & 0o077 == 0 and re.fullmatch(r"[\w-]{20,}", token):
            return token
        path.unlink()  # half written, or others could read it
        return token_of(out)
    token = secrets.token_urlsafe(18)
    with os.fdopen(handle, "w") as stream:
        stream.write(token)
    return token


class Server(ThreadingHTTPServer):
    """Serves `views` until it is shut down. `url` is where."""

    daemon_threads = True

    def __init__(self, views: Views, host: str, port: int, token: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.views, self.host, self.token = views, host, token
        self.changed = threading.Event()
        self.trouble: str | None = None  # what the page must tell though the labels are safe
        self._stop = threading.Event()
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise ClipshiftError(
                f"{host} port {port} cannot be used: {error.strerror}. Give another --port; "
                "a second page of the same labels needs one of its own"
            ) from error
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/{self.token}/"

    def accepts_host(self, name: str) -> bool:
        """Whether a Host header names this server. Any port: a tunnel may have another one."""
        name = re.sub(r":\d+$", "", name.lower()).strip("[]")
        if is_loopback(name):
            return True
        if is_loopback(self.host):
            return False
        if self.host in ("0.0.0.0", "::"):
            own = {socket.gethostname().lower(), socket.getfqdn().lower()}
            return name in own or bool(re.fullmatch(r"[\d.]+|[\da-f:]+", name))
        return name == self.host.lower()

    def finish(self) -> None:
        """Stop serving and bring the files up to date."""
        self.server_close()
        self._stop.set()
        self.changed.set()
        self._writer.join()
        self.write_files()

    def write_files(self) -> None:
        """Write the table and its counts."""
        self.views.store.write()
        write_json(account_path(self.views.store.out), self.views.step_counts())

    def _write(self) -> None:
        delay = WRITE_DELAY
        while not self._stop.is_set():
            self.changed.wait()
            self._stop.wait(delay)
            self.changed.clear()
            if self._stop.is_set():
                return
            start = time.monotonic()
            try:
                self.write_files()
                self.trouble = None
            except (ClipshiftError, OSError) as error:
                self.trouble = f"Labels are safe in the journal, but not in the table: {error}"
                print(f"clipshift: {self.trouble}", file=sys.stderr)
            delay = max(WRITE_DELAY, (time.monotonic() - start) / WRITE_SHARE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nothing to report."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def account_path(out: Path) -> Path:
    return out.with_suffix(".account.json")


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "clipshift"
    sys_version = ""
    timeout = 60  # seconds a connection may wait

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold the token."""

    def _answer(self, act: Callable[[str, dict[str, str]], None]) -> None:
        try:
            act(*self._route())
        except Failure as failure:
            self.close_connection = True  # a body may be left unread
            body = {"error": failure.message} | dict(failure.more)
            self._send_json(body, failure.status)
        except (ClipshiftError, OSError) as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            print(f"clipshift: {error}", file=sys.stderr)
            self.close_connection = True
            self._send_json({"error": f"Not saved: {error}"}, HTTPStatus.INSUFFICIENT_STORAGE)

    def _route(self) -> tuple[str, dict[str, str]]:
        """What is asked for, below the token, and the query.

        Raises:
            Failure: a foreign Host, a foreign Origin, or no token.
        """
        host = self.headers.get("Host", "")
        if len(self.headers.get_all("Host", [])) != 1 or not self.server.accepts_host(host):
            raise Failure(HTTPStatus.FORBIDDEN, "not the address of this page")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Failure(HTTPStatus.FORBIDDEN, "another page may not use this one")
        parts = urlsplit(self.path)
        _, token, rest = [*parts.path.split("/", 2), "", ""][:3]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Failure(HTTPStatus.FORBIDDEN, "open the address that clipshift label printed")
        query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        return rest, query

    def _get(self, what: str, query: dict[str, str]) -> None:
        views = self.server.views
        try:
            if what == "":
                self._send(render(views, query.get("annotator")), "text/html; charset=utf-8")
            elif what in STATIC:
                self._send(data_file(what), f"{STATIC[what]}; charset=utf-8")
            elif what == "image":
                self._send_image(query["key"], query.get("side", "small"))
            elif what == "api/page":
                page = int(query.get("page", "0"))
                found = views.page(query["view"], page, query["annotator"])
                self._send_json(found | {"trouble": self.server.trouble})
            elif what == "api/agreement":
                self._send_json(views.agreement())
            else:
                raise Failure(HTTPStatus.NOT_FOUND, "there is no such page")
        except (KeyError, ValueError) as error:
            raise Failure(HTTPStatus.BAD_REQUEST, f"bad request: {error}") from error

    def _post(self, what: str, query: dict[str, str]) -> None:
        act = {"api/label": self._label, "api/undo": self._undo}.get(what)
        if act is None:
            raise Failure(HTTPStatus.NOT_FOUND, "there is no such page")
        try:
            act(self._body())
        except (KeyError, ValueError) as error:
            raise Failure(HTTPStatus.BAD_REQUEST, f"bad request: {error}") from error

    def _label(self, body: dict[str, Any]) -> None:
        label, expected = body["label"], body["expected"]
        for value in (label, expected):
            if value is not None and (type(value) is not int or value not in range(len(LABELS))):
                raise ValueError(f"{value!r} is no label")
        view, annotator, key, request = _texts(body, "view", "annotator", "key", "id")
        try:
            refused = self.server.views.set(view, annotator, key, label, expected, request)
        except Conflict as conflict:
            message = "This label was changed in another window; look again."
            raise Failure(HTTPStatus.CONFLICT, message, (("label", conflict.now),)) from conflict
        if refused:
            raise Failure(HTTPStatus.UNPROCESSABLE_ENTITY, refused)
        self.server.changed.set()
        self._send_json({"label": label})

    def _undo(self, body: dict[str, Any]) -> None:
        undone = self.server.views.undo(*_texts(body, "view", "annotator", "id"))
        self.server.changed.set()
        self._send_json({"undone": undone})

    def _body(self) -> dict[str, Any]:
        """The JSON of a request. Its type alone keeps forms of other pages out."""
        if self.headers.get_content_type() != "application/json":
            raise Failure(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected JSON")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > LONGEST_BODY:
            raise Failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "expected a short body")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise Failure(HTTPStatus.BAD_REQUEST, "not JSON") from error
        if not isinstance(body, dict):
            raise Failure(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        return body

    def _send_image(self, key: str, side: str) -> None:
        if self.server.views.catalogue.item(key) is None or side not in SIDES:
            raise Failure(HTTPStatus.NOT_FOUND, "no image of this pool has that key")
        data = self.server.views.images.jpeg(key, side)
        if data is None:
            raise Failure(HTTPStatus.UNPROCESSABLE_ENTITY, "the image cannot be shown")
        self._send(data, "image/jpeg", cache="private, max-age=600")

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(
        self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, cache: str = "no-store"
    ) -> None:
        self.send_response(status)
        headers = HEADERS | {"Content-Type": kind, "Cache-Control": cache}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _texts(body: dict[str, Any], *names: str) -> list[str]:
    """Fields of a request that must be texts."""
    found = [body[name] for name in names]
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"{', '.join(names)} are texts")
    return found


def data_file(name: str) -> bytes:
    return files("clipshift").joinpath("data", name).read_bytes()


def render(views: Views, annotator: str | None) -> bytes:
    """The page for one annotator, the first one by default.

    Raises:
        KeyError: an annotator that this page was not started for.
    """
    annotator = views.annotators[0] if annotator is None else annotator
    if annotator not in views.annotators:
        raise KeyError(annotator)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(data_file("label.html.j2").decode()).render(
        annotator=annotator, annotators=views.annotators, size=SIZE, labels=LABELS,
        step_counts=views.catalogue.step_counts, images=len(views.catalogue.items),
    )  # fmt: skip
    return page.encode()
