"""Images and captions of a few samples, found by key among the shards of a data set."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets.images import Undecodable, decode
from clipshift.datasets.tar_paths import data_folder, tars_of
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.layout.figures import Files, leaves

# Side of an embedded image, pixels: sharp in print at the size of a thumbnail.
SIDE = 112
# Colour that stands for an image that cannot be decoded.
BROKEN = "#c8c8c8"


@dataclass(frozen=True)
class Thumbnail:
    """A sample: its caption, and its image as (SIDE, SIDE, 3) uint8."""

    caption: str
    pixels: np.ndarray


def fetch(datasets: Sequence[Files], wanted: Set[str]) -> dict[str, Thumbnail]:
    """The wanted samples of some data sets (each: its `tables` and the `tars` of each).

    Only the tars of shards that hold a wanted key are opened.

    Raises:
        ClipshiftError: a key is in none of them.
    """
    thumbnails: dict[str, Thumbnail] = {}
    for dataset in datasets:
        for table, tar in zip(leaves(dataset["tables"]), leaves(dataset["tars"]), strict=True):
            captions = _captions(Path(table), wanted)
            if captions:
                for key, image in decoded(tars_of([tar], data_folder()), captions.keys()):
                    thumbnails[key] = Thumbnail(captions[key], thumbnail(image, SIDE))
    if missing := sorted(wanted - thumbnails.keys()):
        where = ", ".join(next(leaves(dataset["tables"])) for dataset in datasets)
        raise ClipshiftError(
            f"{len(missing)} images, the first {missing[0]!r}, are not in {where} or the shards "
            "after it; delete the neighbours of this data and run again"
        )
    return thumbnails


def images(files: Files, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Thumbnail]]:
    """Those of rows of neighbours: the test images by test set, and under "" the neighbours."""
    tests = {
        name: fetch([source], {r["test_key"] for r in rows if r["test_set"] == name})
        for name, source in files["tests"].items()
    }
    return tests | {"": fetch(list(files["bases"].values()), {r["key"] for r in rows})}


def decoded(tars: Sequence[Path], wanted: Set[str]) -> Iterator[tuple[str, Image.Image]]:
    """Key and image of the wanted samples, in the order of the tars; `BROKEN` for a damaged one."""
    for tar in tars:
        for sample in read_tar(tar):
            if sample.key in wanted:
                yield sample.key, _decoded(sample)


def _decoded(sample: Sample) -> Image.Image:
    try:
        return decode(sample.image)
    except Undecodable:
        return Image.new("RGB", (SIDE, SIDE), BROKEN)


def thumbnail(image: Image.Image, side: int) -> np.ndarray:
    """(side, side, 3) uint8: the whole image, which is changed, on a white square."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square)


def _captions(table: Path, wanted: Set[str]) -> dict[str, str]:
    rows = read_parquet(table, ["key", "caption"])
    rows = rows.filter(pc.is_in(rows["key"], value_set=pa.array(sorted(wanted), pa.string())))
    return dict(zip(rows["key"].to_pylist(), rows["caption"].to_pylist(), strict=True))
