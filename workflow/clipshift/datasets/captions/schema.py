"""What the steps of controlled trainings share: the table of fields, and the classes."""

from pathlib import Path

import pyarrow as pa

from clipshift.study.config.captions import CAPTION_FIELDS

# Fields of images: texts, empty where there is none, and the label where the data hold one.
FIELDS = pa.schema(
    [("key", pa.string()), *((f, pa.string()) for f in CAPTION_FIELDS), ("label", pa.int32())]
)


def classes_of(classes: list[str] | Path) -> list[str]:
    """Classes in the order of their indices: as they are, or in a file with one a line."""
    return classes if isinstance(classes, list) else classes.read_text().splitlines()
