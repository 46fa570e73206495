"""The one decoder: every kind of file gives the right pixels, or a reason."""

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from clipshift.core.errors import ClipshiftError
from clipshift.core.limited import Beyond
from clipshift.datasets import images
from clipshift.datasets.images import (
    _TURNS,
    MAX_PIXELS,
    Undecodable,
    check,
    colour,
    decode,
    is_plain,
    portable,
)

RAMP = np.tile(np.linspace(0, 65535, 16).astype(np.uint16), (8, 1))  # left to right
RAMP8 = np.rint(RAMP / 257).astype(int)


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def of(array: Any, kind: str, **more: Any) -> bytes:
    return encoded(Image.fromarray(array), kind, **more)


def pixels(data: bytes, **more: Any) -> np.ndarray:
    image = decode(data, **more)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, bits: int, kind: int, row: bytes, extra: bytes = b"", height: int = 1) -> bytes:
    """A PNG of equal rows, with what Pillow cannot write."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + row) * height))
    return b"\x89PNG\r\n\x1a\n" + head + extra + body + chunk(b"IEND", b"")


def four_colours() -> np.ndarray:
    """(8, 16, 3) uint8 without any symmetry."""
    base = np.zeros((8, 16, 3), np.uint8)
    base[:4, :8], base[:4, 8:], base[4:, :8] = (250, 10, 10), (10, 250, 10), (10, 10, 250)
    return base


WRITERS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {"quality": 100, "subsampling": 0}), ("PNG", {}), ("WEBP", {"lossless": True}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "more"), WRITERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, more: dict[str, Any], orientation: int) -> None:
    upright = Image.fromarray(four_colours())
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation)
    stored = upright.transpose(_TURNS[back]) if back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif, **more)
    found = pixels(data)
    assert found.shape == (8, 16, 3)
    assert np.abs(found - four_colours()).max() < 40
    assert is_plain(data) == (orientation == 1 and kind in ("JPEG", "PNG", "WEBP"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey(kind: str) -> None:
    assert (pixels(of(RAMP, kind))[..., 0] == RAMP8).all()
    dark = RAMP // 100  # still a 16-bit file: dark stays dark
    assert pixels(of(dark, kind)).max() == 3
    assert not is_plain(of(RAMP, kind))


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_and_32_bit_tiffs(top: float) -> None:
    found = pixels(of((RAMP / 65535 * top).astype(np.float32), "TIFF"))[..., 0]
    assert np.abs(found - RAMP8).max() <= 1
    if top > 1:
        whole = np.rint(RAMP / 65535 * top).astype(np.int32)
        assert np.abs(pixels(of(whole, "TIFF"))[..., 0] - RAMP8).max() <= 1


def test_a_float_may_leave_its_range_a_little_and_no_more() -> None:
    over = (RAMP / 65535 * 1.04 - 0.02).astype(np.float32)
    found = pixels(of(over, "TIFF"))[..., 0]
    assert (found[:, 0], found[:, -1]) == (pytest.approx(0), pytest.approx(255))
    for wrong in (-3.0, np.nan, np.inf, 1e6):
        bad = RAMP.astype(np.float32)
        bad[0, 0] = wrong if wrong != -3.0 else -30000
        with pytest.raises(Undecodable, match="grey values"):
            decode(of(bad, "TIFF"))


def test_12_bits_and_white_is_zero() -> None:
    values = np.array([[0, 4095, 2048, 1024]], np.uint16)
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x04, 0x00])
    assert pixels(tiff(4, 1, 12, 1, packed))[0, :, 0].tolist() == [0, 255, 128, 64]
    ink = tiff(4, 1, 16, 0, (values.astype("<u2") * 16).tobytes())
    assert np.abs(pixels(ink)[0, :, 0] - [255, 0, 128, 191]).max() <= 1


def tiff(width: int, height: int, bits: int, photometric: int, data: bytes, **more: int) -> bytes:
    """A little-endian TIFF of one strip, or of one tile (more: `tile` pixels a side)."""
    tile = more.get("tile")
    tags = {256: width, 257: height, 258: bits, 259: more.get("compression", 1),
            262: photometric, 277: 1}  # fmt: skip
    where = {273: 8, 278: height, 279: len(data)}
    if tile:
        where = {322: tile, 323: tile, 324: 8, 325: len(data)}
    tags |= where
    body = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in sorted(tags.items()))
    return body + struct.pack("<I", 0)


def test_transparency_is_laid_on_white_or_on_what_is_asked_for() -> None:
    drawing = np.zeros((4, 4, 4), np.uint8)
    drawing[1, 1] = (200, 0, 0, 255)
    for kind in ("PNG", "WEBP", "TIFF", "TGA", "JPEG2000"):
        more = {"lossless": True} if kind == "WEBP" else {}
        found = pixels(of(drawing, kind, **more))
        assert found[0, 0].tolist() == [255, 255, 255]
        assert found[1, 1].tolist() == [200, 0, 0]
        assert pixels(of(drawing, kind, **more), background=(9, 8, 7))[0, 0].tolist() == [9, 8, 7]
        assert not is_plain(of(drawing, kind, **more))


def test_all_ways_to_say_transparent() -> None:
    half = np.zeros((1, 2, 2), np.uint8)
    half[0, 1] = (0, 128)
    grey = of(half, "PNG")  # grey and alpha
    assert pixels(grey)[0, :, 0].tolist() == [255, 127]
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    for kind in ("PNG", "GIF"):
        found = pixels(encoded(palette, kind, transparency=1))
        assert found[0].tolist() == [[0, 0, 0], [255, 255, 255], [40, 50, 60]]
    alphas = encoded(palette, "PNG", transparency=bytes([255, 0, 128]))
    assert pixels(alphas)[0].tolist() == [[0, 0, 0], [255, 255, 255], [147, 152, 157]]
    pa = palette.convert("PA")
    pa.putalpha(0)
    assert (pixels(encoded(pa, "TIFF")) == 255).all()
    rgb = png(2, 8, 2, bytes([0, 0, 0, 9, 9, 9]), chunk(b"tRNS", struct.pack(">HHH", 0, 0, 0)))
    assert pixels(rgb)[0].tolist() == [[255] * 3, [9] * 3]
    grey8 = png(2, 8, 0, bytes([0, 9]), chunk(b"tRNS", struct.pack(">H", 0)))
    assert pixels(grey8)[0].tolist() == [[255] * 3, [9] * 3]
    one = png(8, 1, 0, b"\xf0", chunk(b"tRNS", struct.pack(">H", 1)))
    assert pixels(one, background=(1, 2, 3))[0, [0, 7]].tolist() == [[1, 2, 3], [0, 0, 0]]
    deep = struct.pack(">3H", 0, 257, 65535)
    grey16 = png(3, 16, 0, deep, chunk(b"tRNS", struct.pack(">H", 0)))
    assert pixels(grey16)[0, :, 0].tolist() == [255, 1, 255]
    for file in (rgb, grey8, one, grey16, grey, alphas):
        assert not is_plain(file)


def test_16_bit_colour() -> None:
    row = struct.pack(">6H", 0x80FF, 0x7F00, 0xFFFF, 0x1000, 0x2000, 0x3000)
    plain = png(2, 16, 2, row)
    assert np.abs(pixels(plain)[0] - [[128, 127, 255], [16, 32, 48]]).max() <= 1
    assert not is_plain(plain)
    clear = png(2, 16, 2, row, chunk(b"tRNS", struct.pack(">3H", 0x1000, 0x2000, 0x3000)))
    assert pixels(clear)[0, 1].tolist() == [255, 255, 255]
    rgba = struct.pack(">4H", 0, 0, 0, 0x8000)
    assert np.abs(pixels(png(1, 16, 6, rgba)) - 127).max() <= 1


def test_premultiplied_tiff() -> None:
    image = Image.fromarray(np.full((2, 2, 4), (100, 50, 0, 128), np.uint8))
    data = encoded(image, "TIFF")
    where = data.index(struct.pack("<HHIHH", 338, 3, 1, 2, 0))
    stored = bytearray(data)
    stored[where + 8] = 1  # alpha is associated: colours are multiplied by it already
    assert np.abs(pixels(bytes(stored))[0, 0] - (np.array([100, 50, 0]) + 127)).max() <= 2


def test_other_colour_models() -> None:
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    cases = {
        "cmyk jpeg": encoded(red.convert("CMYK"), "JPEG", quality=100),
        "cmyk tiff": encoded(red.convert("CMYK"), "TIFF"),
        "ycbcr tiff": encoded(red.convert("YCbCr"), "TIFF"),
        "lab tiff": encoded(ImageCms.applyTransform(red, lab) or red, "TIFF"),
    }
    for name, data in cases.items():
        assert np.abs(pixels(data)[4, 4] - (200, 30, 40)).max() < 12, name
        assert not is_plain(data)
    one = np.zeros((2, 8), bool)
    one[:, 4:] = True
    assert pixels(encoded(Image.fromarray(one), "PNG"))[0, :, 0].tolist() == [0] * 4 + [255] * 4
    ycck = bytearray(encoded(red.convert("CMYK"), "JPEG", quality=100))
    ycck[ycck.index(b"Adobe") + 11] = 2  # now the same numbers are YCCK
    assert pixels(bytes(ycck)).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_the_first_frame_stands_for_all(kind: str) -> None:
    first, second = (Image.new("RGB", (16, 16), c) for c in ((200, 30, 40), (10, 250, 10)))
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert np.abs(pixels(data)[8, 8] - (200, 30, 40)).max() < 12


def test_drawings_on_nothing_differ_and_agree_with_their_copy_on_white() -> None:
    bar, box = np.zeros((2, 64, 64, 4), np.uint8)
    bar[5:60, 28:36, 3], box[20:44, 6:58, 3] = 255, 255
    assert np.abs(pixels(of(bar, "PNG")) - pixels(of(box, "PNG"))).max() == 255
    white = Image.new("RGB", (64, 64), "white")
    drawn = Image.fromarray(bar)
    white.paste(drawn, mask=drawn.getchannel("A"))
    assert (pixels(of(bar, "PNG")) == np.asarray(white)).all()


def kinds() -> dict[str, bytes]:
    """A small file of every format that Pillow writes here."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8))
    written = {}
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA"):
        written[kind] = encoded(noise, kind)
    written["tiff lzw"] = encoded(noise, "TIFF", compression="tiff_lzw")
    written["apng"] = encoded(noise, "PNG", save_all=True, append_images=[noise.rotate(90)])
    written["webp rgba"] = encoded(noise.convert("RGBA"), "WEBP")
    return written


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.timeout(120)
def test_damage_gives_an_image_or_a_reason(kind: str) -> None:
    data, rng = kinds()[kind], random.Random(kind)
    slowest = 0.0
    for trial in range(150):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(min(len(data), 200) if trial % 2 else len(data))
            broken[place] = rng.randrange(256)
        if trial % 5 == 0:
            broken = broken[: rng.randrange(len(data))]
        start = time.process_time()
        for read in (decode, check):
            try:
                read(bytes(broken))
            except Undecodable as reason:
                assert str(reason)
        is_plain(bytes(broken))
        slowest = max(slowest, time.process_time() - start)
    assert slowest < 20


def test_bombs() -> None:
    big = encoded(Image.new("1", (14000, 13000)), "PNG")
    with pytest.raises(Undecodable, match="pixels"):
        decode(big)
    side = int(MAX_PIXELS**0.5) + 1  # above our limit, below the one where Pillow itself refuses
    with pytest.raises(Undecodable, match="pixels"):
        decode(encoded(Image.new("1", (side, side)), "PNG"))
    blank = zlib.compress(bytes(300_000_000))
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        start = time.process_time()
        with contextlib.suppress(Undecodable):
            decode(png(1, 8, 2, bytes(3), chunk(kind, head + blank)))
        assert time.process_time() - start < 2, kind
    tile = tiff(2, 2, 8, 1, zlib.compress(bytes(100_000)), tile=30_000, compression=8)
    with pytest.raises(Undecodable, match="tiles"):
        decode(tile)


def test_what_is_no_image_has_a_reason() -> None:
    for data in (b"", b"<html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\0" * 64):
        with pytest.raises(Undecodable):
            decode(data)
        assert not is_plain(data)


def test_threads_see_what_one_sees() -> None:
    files = [*kinds().values(), of(RAMP, "PNG")] * 8
    alone = [decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert [image.tobytes() for image in pool.map(decode, files)] == alone


def test_portable_files_are_read_alike_by_any_decoder() -> None:
    drawing = np.zeros((8, 8, 4), np.uint8)
    drawing[2:5, 2:5] = (200, 0, 0, 255)
    files = [*kinds().values(), of(RAMP, "PNG"), of(drawing, "PNG")]
    for data in files:
        suffix, stored = portable(data, "JPE")
        assert suffix in ("jpg", "png", "webp")
        with Image.open(io.BytesIO(stored)) as image:
            assert image.convert("RGB").tobytes() == decode(data).tobytes()
        assert (stored == data) == is_plain(data)
    jpeg = kinds()["JPEG"]
    assert portable(jpeg, "jpeg") == ("jpeg", jpeg)
    assert portable(jpeg, "JPG".lower()) == ("jpg", jpeg)
    with pytest.raises(Undecodable):
        portable(jpeg[:300], "jpg")
    _, green = portable(of(drawing, "PNG"), "png", background=(0, 255, 0))
    assert pixels(green)[0, 0].tolist() == [0, 255, 0]


def test_colours() -> None:
    for text in ("white", "#fff", "#ggggggg", ""):
        with pytest.raises(ClipshiftError, match="#rrggbb"):
            colour(text)


def jp2_bomb() -> bytes:
    """A JPEG 2000 whose header says 60 megapixels, of 100 bytes."""
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True))
    size = data.index(b"\xff\x51") + 6
    data[size : size + 8] = struct.pack(">II", 8000, 7500)
    data[size + 16 : size + 24] = struct.pack(">II", 8000, 7500)
    return bytes(data)


@pytest.mark.timeout(120)
def test_costly_formats_are_decoded_in_a_process_that_ends() -> None:
    start = os.times()
    with contextlib.suppress(Undecodable):
        decode(jp2_bomb())
    assert sum(os.times()[:4]) - sum(start[:4]) < 30
    # In a process of its own: of this one, other tests' children count.
    work = (
        "import contextlib, resource\nfrom tests.unit.test_images import *\n"
        "with contextlib.suppress(Undecodable):\n    decode(jp2_bomb())\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2 << 20  # KiB
    right = pixels(kinds()["JPEG2000"])
    assert (right == pixels(kinds()["PNG"])).all()


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_a_format_apart_never_opens_here(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = kinds()[kind]
    assert images.is_apart(data)
    before = pixels(data)

    def refuse(*_: Any) -> bytes:
        raise Beyond("takes more than 20 s of computing")

    monkeypatch.setattr(images, "_apart", refuse)
    for read in (decode, check, images.load):
        with pytest.raises(Undecodable, match="image that takes more than 20 s"):
            read(data)
    monkeypatch.undo()
    assert (pixels(data) == before).all()
    rgba = encoded(Image.fromarray(np.full((4, 4, 4), 90, np.uint8)), kind)
    assert images.load(rgba).mode == "RGBA"
    assert images.load(data).mode == "RGB"


def test_large_images_are_converted_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
    deep = np.random.default_rng(0).integers(0, 65536, (40, 30), np.uint16)
    files = [of(drawing, "PNG"), of(deep, "PNG"), of(deep.astype(np.float32), "TIFF")]
    whole = [pixels(data, background=(1, 2, 3)) for data in files]
    monkeypatch.setattr(images, "_BAND", 70)
    for data, right in zip(files, whole, strict=True):
        assert (pixels(data, background=(1, 2, 3)) == right).all()


def test_large_greys_take_little_more_than_their_pixels() -> None:
    side = 6000
    data = encoded(Image.new("I;16", (side, side), 1000), "PNG")
    tracemalloc.start()  # numpy's arrays, of which there were some of 8 bytes a pixel
    assert decode(data).getpixel((0, 0)) == (4, 4, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * side * side
