"""Answers of web servers within limits: of address, time, size, and whole. Standard library only.

`opener` makes the opener that urllib, and so img2dataset, uses for every request. It speaks http
and https only and uses no proxy: behind one, the address that is connected to could not be checked.
Redirects pass through the same checks.
"""

import http.client
import io
import ssl
import time
import urllib.request
from typing import Any

from clipshift.datasets.urls.addresses import Policy

_CHUNK = 1 << 16
# Beginning of an image's file -> bytes that its end holds, where the format has an end.
_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND"}


class _Timed(io.RawIOBase):
    """A connection's stream that ends at a moment, however small the pieces that arrive."""

    def __init__(self, connection: Any, deadline: float):
        self._raw = connection.makefile("rb", buffering=0)
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection:
    """A connection whose answer (head and body) is read through `_Timed`."""

    def __init__(self, connection: Any, deadline: float):
        self._connection = connection
        self._deadline = deadline

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_Timed(self._connection, self._deadline))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def is_cut_off(image: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end. A JPEG with a thumbnail may hide it.

    >>> is_cut_off(b"\\xff\\xd8\\xff and more"), is_cut_off(b"GIF89a")
    (True, False)
    """
    return any(image.startswith(start) and end not in image for start, end in _ENDS.items())


def _response(limit: int) -> type[http.client.HTTPResponse]:
    class Response(http.client.HTTPResponse):
        """An answer that is read whole or not at all."""

        def read(self, amt: int | None = None) -> bytes:
            if amt is not None:
                return super().read(amt)
            parts, size = [], 0
            while part := super().read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise ValueError(f"larger than {limit} bytes")
            if self.length:  # what the server still owes
                raise http.client.IncompleteRead(b"", self.length)
            body = b"".join(parts)
            if is_cut_off(body):
                raise ValueError("cut-off image: the file has no end")
            return body

    return Response


def opener(policy: Policy, seconds: float, limit: int) -> urllib.request.OpenerDirector:
    """An opener within limits, for `urllib.request.install_opener`.

    Args:
        seconds: for a whole answer, from the connection to the last byte; each redirect anew.
        limit: bytes of an answer.
    """
    response = _response(limit)

    def limited(base: type[http.client.HTTPConnection]) -> type[http.client.HTTPConnection]:
        class Limited(base):  # type: ignore[valid-type,misc]
            response_class = response

            def __init__(self, *args: Any, **named: Any):
                super().__init__(*args, **named)
                self._create_connection = policy.connect

            def connect(self) -> None:
                deadline = time.monotonic() + seconds
                super().connect()
                self.sock: Any = _Connection(self.sock, deadline)

        return Limited

    plain, secure = limited(http.client.HTTPConnection), limited(http.client.HTTPSConnection)
    context = ssl.create_default_context()

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(plain, req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(secure, req, context=context)

    director = urllib.request.OpenerDirector()
    for handler in (
        Http(),
        Https(context=context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        director.add_handler(handler)
    return director
