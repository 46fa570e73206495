"""Formats of data sets, one file each, found through the registry `FORMATS`.

In: a path of the user's. Out: a `Dataset` whose units give `Record`s.
"""

import pkgutil
from collections import Counter
from importlib import import_module
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, file_or_folder
from clipshift.datasets.formats.base import FIELDS, Columns, Dataset
from clipshift.datasets.formats.image_folder import ImageFolder
from clipshift.datasets.formats.webdataset import Webdataset
from clipshift.datasets.listing import list_folder, walk

LOOKED_AT = 20  # files of a folder without anything that is read


def _formats() -> tuple[type[Dataset], ...]:
    """The classes of this package's modules that have a name, by rank."""
    modules = [import_module(m.name) for m in pkgutil.iter_modules(__path__, f"{__name__}.")]
    classes = (c for module in modules for c in vars(module).values() if isinstance(c, type))
    kinds = {c for c in classes if issubclass(c, Dataset) and "name" in vars(c)}
    return tuple(sorted(kinds, key=lambda kind: (kind.rank, kind.name)))


# In the order in which they are tried: the first that recognises a path reads it.
FORMATS = _formats()


def recognise(path: Path) -> tuple[type[Dataset], str]:
    """The format of what lies at a path, and why.

    Raises:
        ClipshiftError: nothing is there, no format recognises it, or tars are mixed with images.
    """
    file_or_folder(path)
    for kind in FORMATS:
        if why := kind.recognise(path):
            also = ImageFolder.recognise(path) if kind is Webdataset else None
            if also:
                raise ClipshiftError(
                    f"{path} holds {why} and {also}; name the format that is read, {kind.name} or "
                    f"{ImageFolder.name}: the other is left out"
                )
            return kind, why
    if path.is_dir():
        for name in sorted(walk(path, Counter()))[:LOOKED_AT]:
            if what := explain(path / name):
                raise ClipshiftError(f"{path / name} {what}; nothing else there is read")
        list_folder(path)  # says what it holds
    raise ClipshiftError(
        f"{path} {explain(path) or 'is in none of the formats that are read'}; formats: "
        f"{', '.join(f.name for f in FORMATS)}"
    )


def open_dataset(path: Path, name: str | None = None, columns: Columns | None = None) -> Dataset:
    """The data set at a path.

    Args:
        name: of its format; None: the one that recognises it.
        columns: names of `FIELDS` in the data (see docs/formats.md for each format).

    Raises:
        ClipshiftError: as `recognise`; no format or no field of this name; not this format.
    """
    if unknown := sorted(set(columns or {}) - set(FIELDS)):
        raise ClipshiftError(f"there is no field {unknown[0]!r}; fields: {', '.join(FIELDS)}")
    if name is None:
        kind, _ = recognise(path)
        return kind(path, columns or {})
    kinds = {kind.name: kind for kind in FORMATS}
    if name not in kinds:
        raise ClipshiftError(f"there is no format {name!r}; formats: {', '.join(kinds)}")
    if not kinds[name].recognise(file_or_folder(path)):
        found, why = recognise(path)
        raise ClipshiftError(f"{path} is not {name}; it looks like {found.name}: {why}")
    return kinds[name](path, columns or {})
