"""From an image file to a square JPEG: rasterise, crop to what is visible, put on a background."""

import io

import numpy as np
from PIL import Image

from clipshift.core.limited import Beyond, Refused
from clipshift.datasets.images import Undecodable, load
from clipshift.datasets.sources import svg
from clipshift.study.config.data import Rendering


class Undrawable(Exception):
    """The reason why a file gives no image; becomes a counted rejection."""


class TooCostly(Undrawable):
    """The file takes more memory or time than one image may."""


# Rasterise svg this much larger than needed: the crop to the alpha box enlarges small drawings.
OVERSAMPLING = 1.5
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
    if svg.is_svg(data):
        try:
            data = svg.draw(data, side)
        except Beyond as why:
            raise TooCostly(f"svg that {why}") from None
        except Refused as why:
            raise Undrawable(str(why)) from None
    try:
        image = load(data)
    except Undecodable as reason:
        raise (TooCostly if "takes more" in str(reason) else Undrawable)(str(reason)) from None
    if image.width * image.height > MAX_PIXELS:
        raise Undrawable(f"larger than {MAX_PIXELS // 1_000_000} megapixels")
    return image


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
