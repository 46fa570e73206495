"""Small images for the page, found by key."""

import base64
import io
from pathlib import Path

from PIL import Image

from clipshift.datasets.any_images import open_images
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode
from clipshift.datasets.records import Place, Record

SIDE = 112  # pixels
QUALITY = 82


def find(folder: Path | None, keys: set[str]) -> dict[str, Place]:
    """Where the images of these keys lie.

    In `folder` a key is a path with or without its suffix, or a sample of a tar; a key that is
    itself the path of an existing file is that file.
    """
    found: dict[str, Place] = {}
    if folder is not None:
        for _, unit in open_images(folder).units():
            for record in unit:
                if isinstance(record, Record):
                    for name in (record.key, record.key.rpartition(".")[0]):
                        if name in keys:
                            found.setdefault(name, record.place)
    for key in keys - set(found):
        try:
            if Path(key).is_file():
                found[key] = Place(Path(key))
        except (OSError, ValueError):  # too long, or a NUL in it: no path
            continue
    return found


def data_uri(place: Place, background: Colour = WHITE) -> str | None:
    """The image as the encoder saw it, made small, or None where it cannot be decoded."""
    try:
        image = decode(place.read(), background)
    except (OSError, Undecodable):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
