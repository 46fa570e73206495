"""A first look into the user's data, before anything runs: what is there, and what is wrong.

Listings, heads of tables and the first image are read, so it takes seconds. Faults are clauses for
people, each with the key of the block that mends it.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.class_lists import openai_names
from clipshift.datasets.conversion import chosen_units, opened
from clipshift.datasets.formats import recognise
from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.formats.class_names import read_class_names
from clipshift.datasets.formats.image_folder import ImageFolder
from clipshift.datasets.images import Undecodable, decode
from clipshift.datasets.parts import Part
from clipshift.datasets.records import Record, Rejected
from clipshift.datasets.tars import image_places
from clipshift.study.config.folders import ConvertedPool, FolderSet

# Records that are looked at.
LOOKED_AT = 100
Look = tuple[dict[str, Any], list[str]]  # what is there, and the faults


def missing(place: Path) -> str:
    """That there is nothing at a path, with what is near it."""
    parent = place.parent
    if not parent.is_dir():
        return f"there is no folder {parent}"
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    if near := difflib.get_close_matches(place.name, names, n=3, cutoff=0.6):
        return f"there is no such folder or file; did you mean {' or '.join(near)}?"
    return f"there is no such folder or file; {parent} holds {_few(names) or 'nothing'}"


def look_like(place: Path) -> str:
    """What a path looks like, as a clause for a message; "" where no format recognises it."""
    try:
        kind, why = recognise(place)
    except ClipshiftError:
        return ""
    return f"it looks like {kind.name} ({why})"


def first_image(records: Iterable[Record | Rejected]) -> list[str]:
    """What is wrong with the first images; nothing where one of them decodes."""
    reasons: Counter[str] = Counter()
    first = ""
    for found in islice(records, LOOKED_AT):
        try:
            if isinstance(found, Rejected):
                raise Undecodable(found.reason)
            decode(found.place.read())
            return []
        except (Undecodable, OSError) as error:
            reason = str(error) if isinstance(error, Undecodable) else error.strerror or "no file"
            reasons[reason] += 1
            first = first or str(found.place)
    if not reasons:
        return ["no sample in the first tar or table"]
    return [f"none of the first {reasons.total()} samples is an image: {_spelled(reasons)}; "
            f"the first is {first}"]  # fmt: skip


def first_tar(tars: Iterable[Path]) -> list[str]:
    """What is wrong with the first image of the first tar that has a sample."""
    for tar in islice(tars, LOOKED_AT):
        try:
            records = list(islice(image_places(tar), LOOKED_AT))
        except ClipshiftError as error:
            return [str(error)]
        if records:
            return first_image(records)
    return []


def look(block: ConvertedPool | FolderSet, place: Path, data: Path) -> Look:
    """What there is of data that are to be copied."""
    if not place.exists():
        return {}, [missing(place)]
    try:
        dataset = opened(block, data)
        units = chosen_units(dataset, block.units)
        records = list(islice(_records(dataset, units), LOOKED_AT))
    except ClipshiftError as error:
        return {}, [str(error)]
    samples = [unit.samples for unit in units]
    known = sum(n or 0 for n in samples) if None not in samples else None
    entry: dict[str, Any] = {
        "format": dataset.name,
        "units": {"read": len(units), "there": len(dataset.units())},
        "said": dataset.said,
        "not_read": dict(sorted(dataset.left_out.items())),
    }
    faults = first_image(records)
    if block.part or block.exclude:
        known = _in_part(block, dataset, units)
    if known is not None:
        entry["samples"] = known
    if isinstance(block, FolderSet):
        faults += _labels(block, dataset, units, records, entry, data)
        if known is not None and known != block.samples:
            faults.append(f"{known:,} samples, expected {block.samples:,} (its key `samples`)")
    else:
        faults += _captions(block, dataset, records, data)
    return entry, faults


def _in_part(block: ConvertedPool | FolderSet, dataset: Dataset, units: list[Unit]) -> int:
    """Samples that the block reads."""
    part = Part(block, dataset, units)
    records = (r for r in _records(dataset, units) if isinstance(r, Record))
    return sum(part.refused(record) is None for record in records)


def _records(dataset: Dataset, units: list[Unit]) -> Iterator[Record | Rejected]:
    for unit in units:
        yield from dataset.records(unit)


def _captions(
    block: ConvertedPool, dataset: Dataset, records: list[Record | Rejected], data: Path
) -> list[str]:
    """What captions lack, in the first records and in the block."""
    found = [r for r in records if isinstance(r, Record)]
    faults = []
    for part, field in (("class", "label"), ("caption", "caption")):
        asked = found and f"{{{part}}}" in (block.template or "")
        if asked and not any(getattr(record, field) for record in found):
            faults.append(
                f"the key `template` asks for {{{part}}}, but no sample has a {field}; name its "
                f"column: `columns: {{{field}: NAME}}`"
            )
    if found and not block.template and not any(r.caption for r in found):
        dataset.tell(
            "no captions; `columns: {caption: NAME}` or `template: a photo of a {class}` give them"
        )
    if block.class_names:
        faults += _class_names(data / block.class_names)[1]
    return faults


def _labels(
    block: FolderSet, dataset: Dataset, units: list[Unit], records: list[Record | Rejected],
    entry: dict[str, Any], data: Path,
) -> list[str]:  # fmt: skip
    """What labels and classes lack; the numbers of images per class go into `entry`."""
    if not any(isinstance(r, Record) and r.label for r in records):
        return ["no sample has a label; name its column: `columns: {label: NAME}`"]
    try:
        own = dataset.classes()
    except ClipshiftError as error:
        return [str(error)]
    faults: list[str] = []
    if block.class_names:
        given, faults = _class_names(data / block.class_names)
        if own and given and len(given) != len(own):
            faults.append(
                f"{len(given)} names for {len(own)} classes (its key `class_names`): {_few(own)}"
            )
        own = own or given
    if own and len(own) != block.classes:
        faults.append(
            f"{len(own)} classes, expected {block.classes} (its key `classes`): {_few(own)}"
        )
    if own and block.names == "openai_imagenet" and not faults:
        try:
            openai_names(own, dataset.path)
        except ClipshiftError as error:
            faults.append(str(error))
    if isinstance(dataset, ImageFolder):
        sizes = Counter(
            r.label for r in _records(dataset, units) if isinstance(r, Record) and r.label
        )
        fewest, most = min(sizes, key=lambda c: (sizes[c], c)), max(sizes, key=lambda c: sizes[c])
        entry["samples_per_class"] = {fewest: sizes[fewest], most: sizes[most]}
        if lacking := [c for c in own or [] if not sizes[c]]:
            faults.append(f"no image of {len(lacking)} classes: {_few(lacking)}")
    return faults


def _class_names(file: Path) -> tuple[list[str], list[str]]:
    if not file.is_file():
        return [], [f"{file}: {missing(file)}  (its key `class_names`)"]
    try:
        return read_class_names(file), []
    except ClipshiftError as error:
        return [], [f"{error}  (its key `class_names`)"]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _spelled(reasons: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in reasons.most_common(3))
