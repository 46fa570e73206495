"""Which classes labelled data have, and their names: of the data, of a file, or of ImageNet."""

from collections.abc import Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.conversion import Classes
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.formats.class_names import read_class_names
from clipshift.datasets.listing import natural
from clipshift.datasets.prompts import imagenet_names
from clipshift.datasets.records import Record

# Share of the class names that must have a word in common with ImageNet's of the same index.
SAME_ORDER = 0.9


def classes_of(
    dataset: Dataset, units: Sequence[Unit], names: Path | None = None, openai: bool = False
) -> Classes | None:
    """The classes of a data set; None: no sample has a label.

    Where neither the data nor the file names any, they are the labels in natural order, for which
    all records are read.

    Args:
        names: a file of names, in the order of the labels.
        openai: prompts have OpenAI's names of ImageNet's classes.

    Raises:
        ClipshiftError: the names do not go with the labels.
    """
    own, given = dataset.classes(), read_class_names(names) if names else None
    numbered = dataset.numbered
    if own is None and given is not None:
        own, numbered = given, True
    if own is None:
        found = (r for unit in units for r in dataset.records(unit) if isinstance(r, Record))
        own = sorted({record.label for record in found if record.label}, key=natural)
        numbered = False
    if not own:
        return None
    if given is not None and len(given) != len(own):
        raise ClipshiftError(
            f"{names}: {len(given)} class names for {len(own)} classes of {dataset.path} "
            f"({', '.join(own[:3])} ...); give a name for each, in that order"
        )
    return Classes(own, openai_names(given or own, dataset.path) if openai else given or own,
                   numbered)  # fmt: skip


def openai_names(own: list[str], where: Path) -> list[str]:
    """OpenAI's names of some classes of ImageNet: WordNet ids, or 1,000 in ImageNet's order.

    Raises:
        ClipshiftError: they are neither.
    """
    from timm.data.imagenet_info import ImageNetInfo

    names = imagenet_names()
    listed: list[str] = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    ids = {wnid: i for i, wnid in enumerate(listed)}
    if all(name in ids for name in own):
        return [names[ids[name]] for name in own]
    if len(own) != len(names):
        odd = next(name for name in own if name not in ids)
        raise ClipshiftError(
            f"{where}: `names: openai_imagenet` is for classes that are WordNet ids, or for "
            f"{len(names):,} in ImageNet's order; there are {len(own)}, and {odd!r} is no such "
            "id. Give their names: `class_names: FILE`"
        )
    if own != [str(i) for i in range(len(names))]:
        check_order(own, names, where)
    return names


def check_order(given: Sequence[str], names: Sequence[str], where: Path) -> None:
    """Raise `ClipshiftError` unless nearly all names have a word in common with their like."""
    odd = [i for i, pair in enumerate(zip(given, names, strict=True)) if not _akin(*pair)]
    if len(odd) > (1 - SAME_ORDER) * len(names):
        raise ClipshiftError(
            f"{where}: not the classes of ImageNet in their order; class {odd[0]} is expected "
            f"to be {names[odd[0]]!r}, found {given[odd[0]]!r}. Write the set again with "
            "labels in the order of the WordNet ids"
        )


def _akin(a: str, b: str) -> bool:
    """Whether two names of a class have a word in common."""
    words = [set(name.casefold().replace(",", " ").replace("_", " ").split()) for name in (a, b)]
    return bool(words[0] & words[1])
