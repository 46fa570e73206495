"""The one decoder of images: from the bytes of a file to 8-bit RGB, or the reason why not.

Policy, the same for embedding, training, evaluation, audit, labelling and figures:

- EXIF orientation is applied; colour profiles are not.
- Transparency is laid on a background, white by default (as img2dataset does when it resizes).
- 16-bit values are divided by 257 (12-bit ones by 4095/255). Float values are scaled by the
  smallest of the ranges [0, 1], [0, 255], [0, 65535] that holds them, integers of 32 bits by the
  smaller or larger of the last two. Values may leave a range by a tenth of it, as filters do;
  they are clipped.
- The first frame of an animation stands for it.
- More than `MAX_PIXELS` are refused before any pixel is decoded, and so are tiles that would
  decode to more; Pillow itself bounds what compressed texts and profiles become.
- Only the listed formats are opened: never EPS (Pillow would start Ghostscript), never SVG.
- AVIF, HEIF, JPEG 2000 and JPEG XL, whose libraries allocate and compute much more than their
  pixels, are decoded in another process, within bounds of memory and time.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from PIL import AvifImagePlugin, Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.limited import Beyond, Limited, Refused

Colour = tuple[int, int, int]

SUFFIXES = frozenset(
    (
        "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff",
        "ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "jp2", "jxl", "tga",
    )
)  # fmt: skip
MAX_PIXELS = 89_478_485  # Pillow's limit against decompression bombs: a quarter GiB of RGB
WHITE: Colour = (255, 255, 255)

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
_RANGES = (1.0, 255.0, 65535.0)  # largest values of the scales of grey
_BEYOND = 0.1  # share of a scale by which values may leave it
# Tags of TIFF.
_BITS, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT = 258, 262, 322, 323
# Suffixes and formats that every trainer reads.
_PORTABLE = {"JPEG": ("jpg", "jpeg"), "PNG": ("png",), "WEBP": ("webp",)}

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
# Those that are decoded in another process, and how their files begin.
_APART = tuple(name for name in FORMATS if name in ("AVIF", "HEIF", "JPEG2000", "JXL"))
_HERE = tuple(name for name in FORMATS if name not in _APART)
_HEADS_APART = re.compile(rb"....ftyp|\0\0\0\x0c(jP  |JXL )|\xff\x0a|\xff\x4f\xff\x51", re.DOTALL)
_SHAPE = struct.Struct(">BII")  # bands, width, height
_BAND = 1 << 22  # pixels that are converted at once, where a conversion takes much memory
# Of damaged files and large ones, about which `decode` says more. A filter of warnings that is set
# in a thread is no thread's.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Undecodable(Exception):
    """These bytes give no image; the text is the reason, for counts and lists."""


def colour(text: str) -> Colour:
    """The colour of `#rrggbb`.

    Raises:
        ClipshiftError: the text is none.

    >>> colour("#ff8000")
    (255, 128, 0)
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ClipshiftError(f"the background {text!r} is no colour; write #rrggbb, e.g. #ffffff")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def decode(data: bytes, background: Colour = WHITE) -> Image.Image:
    """The RGB image of the bytes of a file.

    Args:
        background: behind transparent pixels, RGB.

    Raises:
        Undecodable: empty, of a format that is not read, damaged, or too large.
    """
    if not data:
        raise Undecodable("empty file")
    if is_apart(data):
        return _decode_apart(data, background)
    return _opened(data, _HERE, lambda image: _upright(_rgb(image, background), image))


def load(data: bytes) -> Image.Image:
    """The image of the bytes of a file in its own mode, with its transparency; RGB of deep grey.

    Raises:
        Undecodable: as `decode`.
    """
    return _decode_apart(data) if is_apart(data) else _opened(data, _HERE, _loaded)


def is_apart(data: bytes) -> bool:
    """Whether the format is one of those that are decoded in another process."""
    return bool(_HEADS_APART.match(data))


def _opened(
    data: bytes, formats: tuple[str, ...], use: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """What is made of an opened image of a right size; raises `Undecodable`."""
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_size(image)
            return use(image)
    except Undecodable:
        raise
    except Image.DecompressionBombError:
        raise Undecodable(f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # Pillow raises nearly every kind of exception on damaged files
        raise Undecodable("undecodable image") from error


def _loaded(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        return _upright(_rgb(image, WHITE), image)
    image.load()
    return image


def _decode_apart(data: bytes, background: Colour | None = None) -> Image.Image:
    """As `decode`, or as `load` (RGB or RGBA) without a background, in another process."""
    try:
        answer = _apart(data, *(background or ()))
    except Beyond as why:
        raise Undecodable(f"image that {why}") from None
    except Refused as why:
        raise Undecodable(str(why)) from None
    bands, width, height = _SHAPE.unpack_from(answer)
    mode = {3: "RGB", 4: "RGBA"}[bands]
    return Image.frombytes(mode, (width, height), memoryview(answer)[_SHAPE.size :])


def decoded_apart(data: bytes, *background: int) -> bytes:
    """The work of the other process: shape and pixels of an image; raises `ValueError`."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1

    def use(image: Image.Image) -> Image.Image:
        if background:
            red, green, blue = background
            return _upright(_rgb(image, (red, green, blue)), image)
        loaded = _loaded(image)
        return loaded.convert("RGBA" if loaded.has_transparency_data else "RGB")

    try:
        image = _opened(data, _APART, use)
    except Undecodable as reason:
        if isinstance(reason.__cause__, MemoryError):
            raise MemoryError from None
        raise ValueError(str(reason)) from None
    return _SHAPE.pack(len(image.getbands()), *image.size) + image.tobytes()


_apart = Limited(f"{__name__}:decoded_apart", seconds=20, memory=1536 << 20)


def check(data: bytes) -> None:
    """Raise `Undecodable` where `decode` would; of a plain JPEG an eighth of the pixels is made."""
    try:
        plain = is_plain(data)
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if plain:
                image.draft("RGB", (1, 1))
                image.load()
                return
    except Exception:  # `decode` has the reason
        pass
    decode(data)


def is_plain(data: bytes) -> bool:
    """Whether any decoder gives the same RGB image of these bytes as `decode`, by their header.

    False for what needs the policy: another format than JPEG, PNG or WebP, transparency,
    more than 8 bits, an orientation; and for what cannot be opened.
    """
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_PORTABLE)) as image:
            return (
                image.mode in ("L", "RGB")
                and not image.has_transparency_data
                and not (image.format == "PNG" and _png_bits(data) > 8)
                and not getattr(image, "is_animated", False)
                and _orientation(image) == 1
                and 0 < image.width * image.height <= MAX_PIXELS
            )
    except Exception:
        return False


def portable(data: bytes, suffix: str, background: Colour = WHITE) -> tuple[str, bytes]:
    """Suffix and bytes of an image that any decoder reads as `decode` does.

    Plain images keep their bytes, and their suffix where it is one that trainers read; others
    become PNG.

    Raises:
        Undecodable: as `decode`.
    """
    if is_plain(data):
        check(data)
        with Image.open(io.BytesIO(data), formats=tuple(_PORTABLE)) as image:
            names = _PORTABLE[image.format or ""]
        known = {name for some in _PORTABLE.values() for name in some}
        return (suffix if suffix in known else names[0]), data
    out = io.BytesIO()
    decode(data, background).save(out, "PNG")
    return "png", out.getvalue()


def _check_size(image: Image.Image) -> None:
    """Raise `Undecodable` before anything is decoded that would take too much memory."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise Undecodable(f"more than {MAX_PIXELS} pixels")
    if not pixels:
        raise Undecodable("no pixels")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) > MAX_PIXELS:
        raise Undecodable(f"tiles of more than {MAX_PIXELS} pixels")


def _rgb(image: Image.Image, background: Colour) -> Image.Image:
    """8-bit RGB of an image of any mode, unturned."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, background)
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and _is_deep(image):
        # 16-bit colour loses its lower bytes when it is read; so must the one that is transparent.
        image.load()
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        image.load()
        rgb = Image.new("RGB", image.size)
        for box in _bands(image.size):
            rgba = image.crop(box).convert("RGBA")
            plain = Image.new("RGBA", rgba.size, (*background, 255))
            rgb.paste(Image.alpha_composite(plain, rgba).convert("RGB"), box)
        return rgb
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()  # `convert` would copy it, which takes a third of the time of a JPEG
    return image


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows, from above, that cover an image."""
    width, height = size
    rows = max(1, _BAND // width)
    return ((0, top, width, min(top + rows, height)) for top in range(0, height, rows))


def _is_deep(image: Image.Image) -> bool:
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _deep_grey(image: Image.Image, background: Colour) -> Image.Image:
    """RGB of grey values in 12, 16 or 32 bits or float."""
    tags = dict(getattr(image, "tag_v2", {}))
    transparent = image.info.get("transparency")
    image.load()
    boxes = list(_bands(image.size))
    parts = (np.asarray(image.crop(box)) for box in boxes)
    ends = np.array([(part.min(), part.max()) for part in parts], np.float64)
    if not np.isfinite(ends).all():
        raise Undecodable("grey values infinite or NaN")
    low, high = ends[:, 0].min(), ends[:, 1].max()
    scales: tuple[float, ...] = _RANGES[2:]  # 16 bits, which Pillow may widen to 32
    if image.mode == "F":
        scales = _RANGES
    elif image.format == "TIFF":
        bits = tags.get(_BITS, (16,))[0]
        scales = {12: (4095.0,), 32: _RANGES[1:]}.get(bits, scales)
    for top in scales:
        if -_BEYOND * top <= low and high <= top * (1 + _BEYOND * (image.mode == "F")):
            break
    else:
        raise Undecodable(f"grey values below zero or above {scales[-1]:.0f}")
    rgb = Image.new("RGB", image.size)
    for box in boxes:
        values = np.asarray(image.crop(box)).astype(np.float64)
        grey = np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8)
        if tags.get(_PHOTOMETRIC) == 0:  # white is zero
            grey = 255 - grey
        pixels = np.stack([grey] * 3, axis=-1)
        if isinstance(transparent, int):
            pixels[values == transparent] = background
        rgb.paste(Image.fromarray(pixels), box)
    return rgb


def _png_bits(data: bytes) -> int:
    return data[24]  # of IHDR, which is the first chunk


def _upright(rgb: Image.Image, opened: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(opened))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is missing or unreadable."""
    with suppress(Exception):
        found = image.getexif().get(_ORIENTATION, 1)
        return found if found in _TURNS else 1
    return 1
