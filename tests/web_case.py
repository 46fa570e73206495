"""A web server on loopback, good and bad, for downloads: it counts what it is asked for."""

import io
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.conftest import hash_number, photo

# What some hosts send for an image that is gone: status 200 and an image of their own.
REMOVED = photo(999, (40, 30))


@cache
def _photographs() -> list[Image.Image]:
    """The two photographs that scikit-learn brings, 640 x 427."""
    return [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]


@cache
def photo(name: str) -> bytes:
    """A part of a photograph, another one for each name, as JPEG."""
    rng = np.random.default_rng(hash_number(name))
    left, top = (int(rng.integers(0, end)) for end in (480, 307))
    whole = _photographs()[int(rng.integers(0, 2))]
    out = io.BytesIO()
    whole.crop((left, top, left + 160, top + 120)).save(out, "JPEG")
    return out.getvalue()


class Web:
    """The server's state.

    Attributes:
        asked: requests by path.
        gone: paths that answer 404, whatever they would be; a test may mend them.
    """

    def __init__(self, port: int):
        self.port = port
        self.asked: Counter[str] = Counter()
        self.gone: set[str] = set()
        self.delay = 20.0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, body: bytes, kind: str = "image/jpeg", length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            if self.path.startswith("/noai"):
                self.send_header("X-Robots-Tag", "noai")
            self.end_headers()
            self.wfile.write(body)

        def redirect(self, target: str) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def do_GET(self) -> None:  # noqa: PLR0912
            path = self.path.lstrip("/")
            web.asked[path] += 1
            what, _, rest = path.partition("/")
            if path in web.gone or what == "missing":
                self.send_error(404)
            elif what == "error":
                self.send_error(int(rest))
            elif what == "page":
                self.answer(b"<html>not an image</html>", "text/html")
            elif what == "liar":  # says that it is one
                self.answer(b"<html>not an image</html>")
            elif what == "short":  # the connection ends before the body
                body = photo(path)
                self.answer(body[: len(body) // 2], length=len(body))
            elif what == "cut":  # the file itself ends too early
                self.answer(photo(path)[:-40])
            elif what == "moved":
                self.redirect(web.url(rest))
            elif what == "elsewhere":  # into a network that is not allowed
                self.redirect(web.url(rest, "127.0.0.2"))
            elif what == "file":
                self.redirect("file:///etc/hostname")
            elif what == "loop":
                self.redirect(web.url(path))
            elif what == "silent":
                time.sleep(web.delay)
                self.answer(photo(path))
            elif what == "dribble":  # a byte now and then: never idle, never done
                self.dribble(photo(path))
            elif what == "large":
                self.answer(b"\xff\xd8\xff" + bytes(300_000) + b"\xff\xd9")
            elif what == "removed":
                self.answer(REMOVED)
            else:
                self.answer(photo(path))

        def dribble(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            end = time.monotonic() + web.delay
            for i in range(len(body)):
                if time.monotonic() > end:
                    return
                try:
                    self.wfile.write(body[i : i + 1])
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests do."""


@contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server on 127.0.0.1 (and nothing else) while the block runs, of https with `tls`."""
    server = _Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web = Web(server.server_address[1])
    server.RequestHandlerClass = _handler(web)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def listening(host: str, port: int) -> Iterator[list[Any]]:
    """A socket that notes who connects, to show that nobody did."""
    seen: list[Any] = []
    with socket.create_server((host, port)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                seen.append(connection)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()
            thread.join()
