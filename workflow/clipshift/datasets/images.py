"""The one decoder of images: from the bytes of a file to 8-bit RGB, or the reason why not.

Policy, the same for embedding, training, evaluation, audit, labelling and figures:

- EXIF orientation is applied; colour profiles are not.
- Transparency is laid on a background, white by default (as img2dataset does when it resizes).
- 16-bit values are divided by 257. Float values are scaled by the range that holds them:
  [0, 1], [0, 255] or [0, 65535].
- The first frame of an animation stands for it.
- More than `MAX_PIXELS` are refused before any pixel is decoded.
- Only the listed formats are opened: never EPS (Pillow would start Ghostscript), never SVG.
"""

import io
import warnings
from contextlib import suppress

import numpy as np
from PIL import Image

SUFFIXES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff",
        "ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "jp2", "jxl", "tga",
    )
)  # fmt: skip
MAX_PIXELS = 89_478_485  # Pillow's limit against decompression bombs: a quarter GiB of RGB
WHITE = (255, 255, 255)

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RANGES: tuple[tuple[float, float], ...] = (
    (1.0, 255.0),
    (255.0, 1.0),
    (65535.0, 1 / 257),
)  # largest value, factor

with suppress(ImportError):  # optional libraries register their formats
    import pillow_heif  # type: ignore[import-not-found]

    pillow_heif.register_heif_opener()
with suppress(ImportError):
    import pillow_jxl  # type: ignore[import-not-found]  # noqa: F401
Image.init()
_WANTED = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "AVIF", "HEIF", "JPEG2000",
    "JXL", "TGA",
)  # fmt: skip
FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)
# `decode` compares the size itself; a filter of warnings that is set in a thread is no thread's.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Undecodable(Exception):
    """These bytes give no image; the text is the reason, for counts and lists."""


def decode(data: bytes, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """The RGB image of the bytes of a file.

    Args:
        background: behind transparent pixels, RGB.

    Raises:
        Undecodable: empty, of a format that is not read, damaged, or too large.
    """
    if not data:
        raise Undecodable("empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Undecodable(f"more than {MAX_PIXELS} pixels")
            return _upright(_rgb(image, background), image)
    except Undecodable:
        raise
    except Image.DecompressionBombError:
        raise Undecodable(f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # Pillow raises nearly every kind of exception on damaged files
        raise Undecodable("undecodable image") from error


def is_plain(data: bytes) -> bool:
    """Whether any decoder gives the same RGB image of these bytes as `decode`, by their header.

    False for what needs the policy: another format than JPEG, PNG or WebP, transparency,
    more than 8 bits, an orientation; and for what cannot be opened.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            return (
                image.mode in ("L", "RGB")
                and not image.has_transparency_data
                and _orientation(image) == 1
                and image.width * image.height <= MAX_PIXELS
            )
    except Exception:
        return False


def _rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """8-bit RGB of an image of any mode, unturned."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        plain = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(plain, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """(h, w) uint8 of grey values in 16 or 32 bits or float."""
    # Integers are 16-bit files, which Pillow may widen to 32: one scale, whatever their values.
    ranges = _RANGES if image.mode == "F" else _RANGES[2:]
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise Undecodable("grey values below zero, infinite or NaN")
    for largest, factor in ranges:
        if high <= largest:
            return np.rint(values * factor).astype(np.uint8)
    raise Undecodable("grey values above 65535")


def _upright(rgb: Image.Image, opened: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(opened))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is missing or unreadable."""
    with suppress(Exception):
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in _TURNS else 1
    return 1
