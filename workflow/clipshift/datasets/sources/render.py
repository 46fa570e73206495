"""From an image file to a square JPEG: rasterise, crop to what is visible, put on a background."""

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from clipshift.datasets.images import FORMATS, decode
from clipshift.study.config.data import Rendering


class Undrawable(Exception):
    """The reason why a file gives no image; becomes a counted rejection."""


# Rasterise svg this much larger than needed: the crop to the alpha box enlarges small drawings.
OVERSAMPLING = 1.5
# User units of the lengths in svg (CSS: 96 to the inch).
UNITS = {"": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96}
_SIZE = re.compile(r"""\s(width|height)\s*=\s*["']\s*(\d+\.?\d*|\.\d+)\s*([a-z%]*)\s*["']""")
# A larger image is refused before its pixels are decoded (decompression bombs).
MAX_PIXELS = 64_000_000


def render(data: bytes, spec: Rendering) -> bytes:
    """JPEG bytes of one image, `px` x `px`.

    An image with transparency is cropped to its visible box and padded to a square; an opaque
    one is cropped to its central square.

    Raises:
        Undrawable: unreadable, unrenderable or blank.
    """
    image = rasterise(data, round(spec.px * OVERSAMPLING))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        square = _cut_out(image.convert("RGBA"), spec)
    else:
        square = _central(image.convert("RGB"), spec.px)
    pixels = np.asarray(square)
    if np.ptp(pixels.reshape(-1, 3), axis=0).max() <= 2:
        raise Undrawable("blank image")
    out = io.BytesIO()
    square.save(out, "JPEG", quality=spec.quality, subsampling=0)
    return out.getvalue()


def rasterise(data: bytes, side: int) -> Image.Image:
    """Decode a raster file, or draw an svg with its longer side at about `side` pixels."""
    if _is_svg(data):
        data = _draw(data.decode("utf-8", errors="replace"), side)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Undrawable(f"larger than {MAX_PIXELS // 1_000_000} megapixels")
            if image.mode[0] in "IF":  # deep grey, which Pillow would clip
                return decode(data)
            image.load()
            return image
    except Undrawable:
        raise
    except Exception as error:  # Pillow raises nearly every kind of exception on damaged files
        raise Undrawable("undecodable image") from error


def _is_svg(data: bytes) -> bool:
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"<") and b"<svg" in data


def _draw(svg: str, side: int) -> bytes:
    tag = re.search(r"<(?:\w+:)?svg\b[^>]*>", svg)
    if tag is None:
        raise Undrawable("no svg element")
    # Text depends on the fonts of the machine; ours comes with a pinned package.
    fonts: dict[str, Any] = {}
    if "<text" in svg:
        fonts = {"font_files": [_font()], "font_family": "DejaVu Sans"}
    svg = _with_view_box(svg, tag)
    try:
        return resvg_py.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True, **fonts)
    except (ValueError, RuntimeError) as error:
        raise Undrawable("unrenderable svg") from error


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


@cache
def _font() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def _cut_out(image: Image.Image, spec: Rendering) -> Image.Image:
    box = image.getchannel("A").point([0] * 8 + [255] * 248).getbbox()
    if box is None:
        raise Undrawable("blank image")
    image = image.crop(box)
    inner = max(1, round(spec.px * (1 - 2 * spec.margin)))
    scale = inner / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    square = Image.new("RGB", (spec.px, spec.px), spec.background)
    square.paste(image, ((spec.px - size[0]) // 2, (spec.px - size[1]) // 2), image)
    return square


def _central(image: Image.Image, px: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((px, px), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
