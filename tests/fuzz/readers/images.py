"""The decoder of images, what a training gets of them, and drawings of sources."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from clipshift.core.errors import ClipshiftError
from tests.conftest import svg
from tests.fuzz.reader import Reader

# Levels by which two ways of rounding may differ.
LEVELS = 1.01
FILES = {
    "a.jpg": ("JPEG", "RGB"), "b.jpg": ("JPEG", "L"), "a.png": ("PNG", "RGB"),
    "b.png": ("PNG", "RGBA"), "c.png": ("PNG", "P"), "d.png": ("PNG", "I;16"),
    "a.webp": ("WEBP", "RGB"), "a.gif": ("GIF", "P"), "a.tif": ("TIFF", "RGB"),
    "a.bmp": ("BMP", "RGB"),
}  # fmt: skip


def pixels(data: bytes) -> np.ndarray:
    """(H, W, 3) float64 by Pillow and numpy alone; transparency lies on white."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        if opened.mode == "I;16":
            grey = np.asarray(opened).astype(np.float64) / 257
            return np.repeat(grey[..., None], 3, axis=2)
        if opened.mode not in ("RGB", "RGBA", "L", "LA", "P", "1", "PA"):
            raise ValueError(f"no oracle for the mode {opened.mode}")
        image = ImageOps.exif_transpose(opened).convert("RGBA")
    values = np.asarray(image).astype(np.float64)
    alpha = values[..., 3:] / 255
    return np.asarray(values[..., :3] * alpha + 255 * (1 - alpha))


class Decode(Reader):
    """Bytes of an image file as 8-bit RGB."""

    name = "images.decode"
    names_input = False  # it is given bytes

    def build(self, folder: Path) -> None:
        gradient = np.add.outer(np.arange(9), 2 * np.arange(12)).astype(np.float64)
        for i, (name, (kind, mode)) in enumerate(FILES.items()):
            grey = (gradient * (i + 1)) % 251
            if mode == "I;16":
                image = Image.fromarray((grey * 200).astype(np.uint16))
            else:
                image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
            if mode == "RGBA":
                image.putalpha(Image.fromarray((gradient * 7 % 256).astype(np.uint8)))
            image.save(folder / name, kind)

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.images import Undecodable

        found = {}
        for path in sorted(folder.iterdir()):
            if path.is_file():
                try:
                    found[path.name] = self.one(path)
                except Undecodable as reason:
                    found[path.name] = None
                    if not str(reason):
                        raise AssertionError("no reason") from reason
        return found

    def one(self, path: Path) -> Any:
        from clipshift.datasets.images import decode

        return np.asarray(decode(path.read_bytes()))

    def truth(self, folder: Path) -> Any:
        found = {}
        for path in sorted(folder.iterdir()):
            if path.is_file():
                try:
                    found[path.name] = pixels(path.read_bytes())
                except Exception:
                    found[path.name] = None
        return found

    def agrees(self, found: Any, wanted: Any) -> bool:
        """What is decoded is as Pillow decodes it; what Pillow cannot, may be refused or not."""
        return (
            all(
                one is None
                or wanted.get(name) is None
                or (
                    one.shape == wanted[name].shape
                    and np.abs(one.astype(np.float64) - wanted[name]).max(initial=0) <= LEVELS
                )
                for name, one in found.items()
            )
            and sum(one is None for one in found.values()) <= 2
        )


class Portable(Decode):
    """What a training gets: any decoder sees in it what ours sees in the file."""

    name = "images.portable"

    def one(self, path: Path) -> Any:
        from clipshift.datasets.images import portable

        _, stored = portable(path.read_bytes(), path.suffix[1:])
        with Image.open(io.BytesIO(stored)) as image:
            return np.asarray(image.convert("RGB"))


class Drawing(Reader):
    """A drawing of a source as a square photo."""

    name = "svg.render"
    names_input = False

    def build(self, folder: Path) -> None:
        (folder / "a.svg").write_bytes(svg("teal"))

    def read(self, folder: Path, out: Path) -> Any:
        from clipshift.datasets.sources.render import Undrawable, render
        from clipshift.study.config.data import Rendering

        if not (folder / "a.svg").is_file():
            raise ClipshiftError("left out: no file")
        try:
            stored = render((folder / "a.svg").read_bytes(), Rendering(px=32))
        except Undrawable as reason:
            raise ClipshiftError(f"left out: {reason}") from reason
        with Image.open(io.BytesIO(stored)) as image:
            # Coarse: what is where, not how resvg draws an edge.
            return np.asarray(image.convert("RGB").resize((4, 4))).tolist()

    def truth(self, folder: Path) -> Any:
        return {"any": True}

    def agrees(self, found: Any, wanted: Any) -> bool:
        """There is no second renderer here: an image of the right size, and not of one colour.

        A file that is named is never read: an endless one would take time or memory.
        """
        flat = np.array(found).reshape(-1, 3)
        return flat.shape == (16, 3) and bool(np.ptp(flat, axis=0).max() > 0)
