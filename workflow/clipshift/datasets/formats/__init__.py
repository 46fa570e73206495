"""Formats of data sets, one file each, found through the registry `FORMATS`.

In: a path of the user's. Out: a `Dataset` whose units give `Record`s.
"""

from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.formats.base import Columns, Dataset
from clipshift.datasets.formats.image_folder import ImageFolder
from clipshift.datasets.formats.webdataset import Webdataset

# In the order in which they are tried: the first that recognises a path reads it.
FORMATS: tuple[type[Dataset], ...] = (Webdataset, ImageFolder)


def recognise(path: Path) -> tuple[type[Dataset], str]:
    """The format of what lies at a path, and why.

    Raises:
        ClipshiftError: nothing is there, or no format recognises it.
    """
    if not path.exists():
        raise ClipshiftError(f"{path} is not there")
    for kind in FORMATS:
        if why := kind.recognise(path):
            return kind, why
    raise ClipshiftError(
        f"{path} is in none of the formats that are read: {', '.join(f.name for f in FORMATS)}"
    )


def open_dataset(path: Path, name: str | None = None, columns: Columns | None = None) -> Dataset:
    """The data set at a path.

    Args:
        name: of its format; None: the one that recognises it.

    Raises:
        ClipshiftError: as `recognise`; or no format of this name.
    """
    if name is None:
        kind, _ = recognise(path)
    else:
        kinds = {kind.name: kind for kind in FORMATS}
        if name not in kinds:
            raise ClipshiftError(f"there is no format {name!r}; formats: {', '.join(kinds)}")
        kind = kinds[name]
    return kind(path, columns or {})
