"""Drawings in svg: drawn by resvg in a process of its own, without files, connections or end.

A reference to what lies outside of a drawing is never followed; the drawing is drawn without it.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import resvg_py

from clipshift.core.limited import Limited

# User units of the lengths in svg (CSS: 96 to the inch).
UNITS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96}
_SIZE = re.compile(r"""\s(width|height)\s*=\s*["']\s*(\d+\.?\d*|\.\d+)\s*([a-z%]*)\s*["']""")
# `href` to anything but a part of the drawing or data inside it.
_OUTWARD = re.compile(r"""\bhref(?=\s*=\s*["']\s*+(?!#|data:))""")
# Text depends on the fonts of the machine; ours comes with a pinned package.
_FONT = Path(getattr(find_spec("matplotlib"), "origin", "")).with_name("mpl-data")
_FONT /= "fonts/ttf/DejaVuSans.ttf"
# For one drawing. Real ones take a tenth of the time and of the memory.
_SECONDS, _MEMORY = 5, 512 << 20

_draw = Limited(f"{__name__}:drawn", _SECONDS, _MEMORY)
_write = Limited(f"{__name__}:written", _SECONDS, _MEMORY, files=1)  # the font


def is_svg(data: bytes) -> bool:
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"<") and b"<svg" in data


def draw(data: bytes, side: int) -> bytes:
    """PNG of an svg, its width `side` pixels.

    Raises:
        Refused: no drawing, or beyond a bound (`Beyond`).
    """
    return (_write if b"<text" in data else _draw)(data, side)


def drawn(data: bytes, side: int) -> bytes:
    """As `draw`, in the process that draws; raises `ValueError`."""
    return _png(data, side)


def written(data: bytes, side: int) -> bytes:
    """As `drawn`, of a drawing that holds text."""
    if re.search(rb"<!ENTITY[^>]*[<&]", data):  # which could hide a reference
        raise ValueError("svg with markup in an entity")
    return _png(data, side, font_files=[str(_FONT)], font_family="DejaVu Sans")


def _png(data: bytes, side: int, **fonts: object) -> bytes:
    svg = data.decode("utf-8", errors="replace")
    tag = re.search(r"<(?:\w+:)?svg\b[^>]*>", svg)
    if tag is None:
        raise ValueError("no svg element")
    svg = _OUTWARD.sub("href_", _with_view_box(svg, tag))
    try:
        return resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True, **fonts)  # type: ignore[arg-type]
    except (ValueError, RuntimeError):
        raise ValueError("unrenderable svg") from None


def _with_view_box(svg: str, tag: re.Match[str]) -> str:
    """Give the root element a viewBox (from its size) and drop its size, so that it scales."""
    root = tag.group(0)
    if "viewBox" not in root:
        size = {
            name: float(number) * UNITS[unit]
            for name, number, unit in _SIZE.findall(root)
            if unit in UNITS
        }
        box = f' viewBox="0 0 {size.get("width", 1000):g} {size.get("height", 1000):g}"'
        root = re.sub(r"(<(?:\w+:)?svg\b)", rf"\1{box}", root, count=1)
    root = re.sub(r'\s(width|height)\s*=\s*["\'][^"\']*["\']', "", root)
    return svg[: tag.start()] + root + svg[tag.end() :]
