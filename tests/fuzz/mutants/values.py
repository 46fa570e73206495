"""Odd texts and images that stand in the place of good ones."""

import io
import struct
import zlib

from PIL import Image

DEEP = 100_000
TEXTS = (
    b"", b" ", b"\xff\xfe\x00", b"\xc2\xb2", b"1" * 5000, b"-1", b"1.5", b"1e400", b"NaN", b"null",
    b"[" * DEEP, b'{"a":' * DEEP, b'{"caption": "\\ud800"}', b'{"caption": 3}', b'{"caption": []}',
    b"\xef\xbb\xbf0", b"0\r\n", b"\x00", "\u0663".encode(), b"x" * 300_000, b"true", b"0x1",
)  # fmt: skip


def png(width: int, height: int, data: bytes = b"", bits: int = 8, colour: int = 2) -> bytes:
    """A PNG of any stated size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54)
    return head + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(out, kind)
    return out.getvalue()


def svg(body: str, head: str = 'viewBox="0 0 20 20"', before: str = "") -> bytes:
    space = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{before}<svg {space} {head}>{body}</svg>".encode()


_RECT = '<rect width="9" height="9" fill="red"/>'
_USES = "".join(
    f'<g id="g{i}">' + f'<use xlink:href="#g{i - 1}"/>' * 10 + "</g>" for i in range(1, 10)
)
_ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
SVGS = {
    "blur": svg(
        '<filter id="b" width="99" height="99"><feGaussianBlur stdDeviation="500"/></filter>'
        '<rect width="20" height="20" fill="red" filter="url(#b)"/>' * 20
    ),
    "morphology": svg(
        '<filter id="b"><feMorphology operator="dilate" radius="9999"/></filter>'
        '<rect width="20" height="20" fill="red" filter="url(#b)"/>' * 20
    ),
    "turbulence": svg(
        '<filter id="b"><feTurbulence baseFrequency="0.9" numOctaves="99999"/></filter>'
        '<rect width="20" height="20" fill="red" filter="url(#b)"/>'
    ),
    "nest": svg("<g>" * 50_000 + _RECT + "</g>" * 50_000),
    "use": svg(f'<g id="g0">{_RECT}</g>{_USES}'),
    "self": svg(f'<g id="a">{_RECT}<use xlink:href="#a"/></g>'),
    "entities": svg(
        f"<text>&e9;</text>{_RECT}", before=f'<!DOCTYPE s [<!ENTITY e0 "x">{_ENTITIES}]>'
    ),
    "file": svg('<image width="20" height="20" xlink:href="/dev/zero"/>' + _RECT),
    "size": svg(_RECT, 'width="1e9" height="1e9"'),
    "thin": svg(_RECT, 'viewBox="0 0 1 1e9"'),
    "nobox": svg(_RECT, 'viewBox="0 0 0 0"'),
    "nan": svg('<rect width="NaN" height="1e400" fill="url(#x)"/>' + _RECT),
    "latin1": svg(_RECT).replace(b"red", b"r\xe9d"),
    "utf16": svg(_RECT).decode().encode("utf-16"),
    "gzip": b"\x1f\x8b\x08" + bytes(20),
    "dashes": svg(
        '<path d="M0 0L20 20" stroke="red" stroke-width="1" stroke-dasharray="1e-9"/>' + _RECT
    ),
}
IMAGES = (
    b"", b"no image", b"<html>", saved("JPEG")[:40], saved("PNG"), saved("PNG", "L"),
    saved("PNG", "RGBA"), saved("GIF", "P"), saved("TIFF", "F"), saved("JPEG", "CMYK"),
    png(65_535, 65_535), png(1 << 31, 1), png(0, 0), png(30_000, 3_000, bytes(1 << 20)),
    png(9_000, 9_000, bytes(9_000 * 27_001)), bmp(65_535, 65_535), bmp(-5, 5), bmp(5, -(1 << 31)),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x00\x00\x01\x00\x01\x00",
    *SVGS.values(),
)  # fmt: skip
