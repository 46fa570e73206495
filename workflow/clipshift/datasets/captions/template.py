"""Give a labelled set captions from a template, so that it can be training data."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.core.step import step
from clipshift.datasets.images import Undecodable
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.datasets.tars import Sample

LOG = logging.getLogger(__name__)


def captioned(
    tars: Path | Sequence[Path], rows: dict[str, dict[str, str]], template: str
) -> Iterator[Sample]:
    """Samples with image and caption; one without an image has a caption only.

    Args:
        rows: `class_name` and `caption` of each key.
        template: with `{class}`, and `{caption}` for the source's own.
    """
    for sample in read_tars(tars):
        row = rows[sample.key]
        text = template.replace("{class}", row["class_name"]).replace("{caption}", row["caption"])
        try:
            image = {"jpg": sample.image}
        except Undecodable:  # the training says so
            image = {}
        yield Sample(sample.key, image | {"txt": text.encode()})


@step(version=1)
def caption(tars: list[str], table: Path, template: str, out: Path) -> None:
    """Write a tar of the samples of a set with their captions, see `captioned`.

    Args:
        tars: words, see `clipshift.datasets.tar_paths`.
    """
    if "{class}" not in template:
        raise ClipshiftError(f"reference_caption {template!r} has no {{class}}")
    names = read_parquet(table, ["key", "class_name", "caption"]).to_pylist()
    rows = {row["key"]: row for row in names}
    count = write_tar(out, captioned(tars_of(tars, data_folder()), rows, template))
    LOG.info(f"{count} samples captioned")
