"""Which addresses are connected to, and which answers are taken; real sockets, no img2dataset."""

import http.client
import ipaddress
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshift.datasets import images
from clipshift.datasets.urls import fetcher
from clipshift.datasets.urls.addresses import Policy, Refused, kind
from clipshift.datasets.urls.reasons import reason
from clipshift.datasets.urls.web import opener
from tests.web_case import Web, listening, photo, served


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with served() as web:
        yield web


LOOPBACK = Policy.of(["127.0.0.1/32", "::1/128"])


def get(url: str, policy: Policy = LOOPBACK, seconds: float = 5, limit: int = 200_000) -> bytes:
    with opener(policy, seconds, limit).open(url, timeout=seconds) as answer:
        body: bytes = answer.read()
        return body


def failure(url: str, **how: Any) -> str | None:
    """The reason that the counts would give."""
    with pytest.raises((OSError, ValueError, http.client.HTTPException)) as caught:
        get(url, **how)
    return reason("failed_to_download", str(caught.value))


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback address"),
        ("127.9.9.9", "loopback address"),
        ("0.0.0.0", "loopback address"),
        ("::1", "loopback address"),
        ("::", "loopback address"),
        ("::ffff:127.0.0.1", "loopback address"),
        ("169.254.169.254", "link-local address"),
        ("fe80::1", "link-local address"),
        ("10.0.0.1", "private address"),
        ("172.16.0.1", "private address"),
        ("192.168.1.1", "private address"),
        ("100.64.0.1", "private address"),
        ("fd00::1", "private address"),
        ("::ffff:10.0.0.1", "private address"),
        ("64:ff9b::a00:1", "private address"),
        ("2002:a00:1::", "private address"),
        ("224.0.0.1", "private address"),
        ("255.255.255.255", "private address"),
        ("0.1.2.3", "private address"),
        ("100.100.100.200", "private address"),
        ("100.127.255.255", "private address"),
        ("168.63.129.16", "metadata address"),
        ("192.0.0.192", "private address"),
        ("192.0.2.1", "private address"),
        ("192.88.99.1", "private address"),
        ("198.18.0.1", "private address"),
        ("198.51.100.1", "private address"),
        ("203.0.113.1", "private address"),
        ("239.255.255.255", "private address"),
        ("240.0.0.1", "private address"),
        ("fd00:ec2::254", "private address"),
        ("fd20:ce::254", "private address"),
        ("fe80::a9fe:a9fe", "link-local address"),
        ("fec0::1", "private address"),
        ("ff02::1", "private address"),
        ("100::1", "private address"),
        ("5f00::1", "private address"),
        ("2001:db8::1", "private address"),
        ("3fff::1", "private address"),
        ("::ffff:169.254.169.254", "link-local address"),
        ("::ffff:100.64.0.1", "private address"),
        ("::10.0.0.1", "private address"),
        ("::127.0.0.1", "loopback address"),
        ("::169.254.169.254", "link-local address"),
        ("::ffff:0:10.0.0.1", "private address"),
        ("64:ff9b::7f00:1", "loopback address"),
        ("64:ff9b::a9fe:a9fe", "link-local address"),
        ("64:ff9b:1::808:808", "private address"),
        ("2002:7f00:1::", "loopback address"),
        ("2002:a9fe:a9fe::1", "link-local address"),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "private address"),
        ("2606:4700::5efe:10.0.0.1", "private address"),
        ("2606:4700::200:5efe:127.0.0.1", "loopback address"),
        ("1.1.1.1", None),
        ("9.255.255.255", None),
        ("11.0.0.0", None),
        ("100.63.255.255", None),
        ("100.128.0.0", None),
        ("172.15.255.255", None),
        ("172.32.0.0", None),
        ("192.0.1.0", None),
        ("223.255.255.255", None),
        ("::ffff:1.1.1.1", None),
        ("64:ff9b::101:101", None),
        ("2002:101:101::1", None),
        ("2001:4860:4860::8888", None),
        ("2606:4700::1111", None),
    ],
)
def test_kinds_of_addresses(address: str, what: str | None) -> None:
    assert kind(ipaddress.ip_address(address)) == what


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "224.0.0.1", "fd00::1"])
def test_allowed_networks_are_those_and_no_others(address: str) -> None:
    inside = ipaddress.ip_network(address)
    Policy.of([str(inside)]).check(address)
    for policy in (Policy(), Policy.of(["10.9.0.0/16", "fd01::/16"])):
        with pytest.raises(Refused, match="refused: "):
            policy.check(address)


def test_names_of_metadata_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name, the address counts; also with the scope that a resolver may add."""
    for address in ("169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe%eth0", "100.100.100.200"):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
        with pytest.raises(Refused, match="refused: "):
            Policy().connect(("metadata.google.internal", 80), 1)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0x7f000001",
     "017700000001", "127.0.1", "0x7f.0.0.0x1", "00000177.1", "[::1]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "0.0.0.0", "0", "127.255.255.254"],
)  # fmt: skip
def test_refused_by_default_before_a_connection(host: str) -> None:
    """However the address is spelled; the socket that listens there sees nobody."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with listening("127.0.0.1", port) as seen:
        said = failure(f"http://{host}:{port}/x.jpg", policy=Policy())
        assert said == "refused: loopback address"
        assert not seen


def test_a_redirect_is_checked_like_any_url(web: Web) -> None:
    with listening("127.0.0.2", web.port) as seen:
        assert failure(web.url("elsewhere/a.jpg")) == "refused: loopback address"
        assert not seen
    assert get(web.url("moved/a.jpg")) == photo("a.jpg")
    assert failure(web.url("file/a")) == "refused: redirect to another scheme"
    assert failure(web.url("loop/a")) == "redirects without end"


def test_one_private_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(Refused, match=r"refused: private address 10\.0\.0\.1"):
        Policy().connect(("two.example", 80), 1)


def test_a_name_is_resolved_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second answer of the name server (DNS rebinding) would never be asked for."""
    asked = []
    resolve = socket.getaddrinfo

    def once(host: str, *rest: Any, **named: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1" if len(asked) == 1 else "127.0.0.3", *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    assert get(web.url("a.jpg", "rebound.example")) == photo("a.jpg")
    assert asked == ["rebound.example"]


def test_a_proxy_of_the_environment_is_not_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(web.url("a.jpg")) == photo("a.jpg")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:text/plain,a"])
def test_other_schemes_are_no_urls(url: str) -> None:
    assert failure(url) == "no URL"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("missing/a", "HTTP 404"),
        ("error/500", "HTTP 500"),
        ("error/410", "HTTP 410"),
        ("short/a.jpg", "truncated"),
        ("cut/a.jpg", "truncated"),
        ("large/a.jpg", "too large"),
    ],
)
def test_bad_answers_have_a_name(web: Web, path: str, said: str) -> None:
    assert failure(web.url(path)) == said


@pytest.mark.parametrize("path", ["silent/a", "dribble/a"])
def test_slow_answers_end_in_time(web: Web, path: str) -> None:
    started = time.monotonic()
    assert failure(web.url(path), seconds=0.5) == "timeout"
    assert time.monotonic() - started < 2


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_https_through_the_same_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost"]
    words += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(context) as web:
        url = web.url("a.jpg", "localhost").replace("http:", "https:")
        assert failure(url) == "TLS failed"  # nobody we know has signed it
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert get(url) == photo("a.jpg")
        assert failure(url.replace("a.jpg", "short/a.jpg")) == "truncated"
        assert failure(url.replace("a.jpg", "dribble/a"), seconds=1) == "timeout"
        assert failure(url, policy=Policy()) == "refused: loopback address"


def test_hosts_that_are_not_there() -> None:
    assert failure("http://nowhere.invalid/a") == "host not found"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/a") == "no answer"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_transparency_is_resolved_as_the_resizer_does(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (30, 20, 4)).astype(kind)
    alpha = image[:, :, 3, np.newaxis]  # the lines of img2dataset's resizer
    right = alpha / 255 * image[..., :3] + 255 - alpha
    right = np.rint(right.clip(min=0, max=255)).astype(np.uint8)
    monkeypatch.setattr(fetcher, "_BAND", 70)
    found = fetcher.bounded(lambda *_: image)(b"", 0)
    assert found.dtype == np.uint8
    assert (found == right).all()
    for other in (image[..., :3], image[..., 0], None):
        assert fetcher.bounded(lambda *_, other=other: other)(b"", 0) is other


def test_downloads_are_refused_above_the_decoder_s_bound() -> None:
    assert fetcher.MAX_PIXELS == images.MAX_PIXELS
    said = "error: (-215:Assertion failed) pixels <= CV_IO_MAX_IMAGE_PIXELS in function 'x'"
    assert reason("failed_to_resize", said) == "too many pixels"
