"""Whether the data that the user already has are there and whole: one check, one message.

A record per data set holds the numbers of tars or classes. Nothing is read but listings, small
files and the first image of each: seconds for tens of thousands of tars.
"""

import os
import re
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json
from clipshift.core.job_logs import note
from clipshift.core.step import step
from clipshift.datasets import first_look
from clipshift.datasets.external_pool import columns_of
from clipshift.datasets.external_set import class_names
from clipshift.datasets.records import Place, Record
from clipshift.datasets.tar_paths import data_folder, set_tars
from clipshift.study.config.folders import AnyFolder, CaptionedPool, FolderPool, FolderSet

# Names of a list that a message spells out.
SPELLED = 3
# A table of img2dataset's.
TABLE = re.compile(r"[0-9]+\.parquet")

Folders = Mapping[str, AnyFolder]
# Of each pool the points that recipes keep, by the configuration's key.
Sizes = Mapping[str, Mapping[str, int]]


@step(version=1)
def check(folders: Folders, out: Path, sizes: Sizes | None = None) -> None:
    """Write `{dataset}.json` for each of some folders (see `take_stock`)."""
    for name, entry in take_stock(folders, data_folder(), sizes).items():
        for line in entry["said"]:
            note(f"{entry['kind']}s.{name}: {line}")
        write_json(out / f"{name}.json", entry)


def take_stock(
    folders: Folders, data: Path, sizes: Sizes | None = None,
    weights: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What is there of each data set: its tars, the numbers without one, and what people should
    know of it (`said`).

    Args:
        weights: the configuration's key -> a file of weights, which must be there.

    Raises:
        ClipshiftError: anything is missing, unfinished, or not as configured; the message lists
            all of it, with the place, the configuration's key and how to get it.
    """
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name, block in folders.items():
        kind = "set" if isinstance(block, FolderSet) else "pool"
        place = Path(os.path.abspath(data / block.folder))  # noqa: PTH100 (a link stays a link)
        key = f"{kind}s.{name}.folder"
        if isinstance(block, CaptionedPool):
            entry, what = _captioned(block, place, data)
        elif isinstance(block, FolderPool):
            entry, what = _pool(block, place)
        elif isinstance(block, FolderSet) and block.in_place:
            entry, what = _set(block, place)
        else:
            entry, what = first_look.look(block, place, data)
        entry = {"kind": kind, "folder": block.folder, "said": []} | entry
        if not isinstance(block, FolderSet):
            what += _amount(entry, block.samples, (sizes or {}).get(name, {}))
        found[name] = entry
        if what:
            lines = [f"{place}  ({key})", *(f"  {line}" for line in what)]
            how = block.obtain.strip().splitlines()
            lines += ["  to get it:"] * bool(how) + [f"    {line}" for line in how]
            faults += lines
    for key, file in (weights or {}).items():
        place = Path(os.path.abspath(data / file))  # noqa: PTH100 (as above)
        if not place.is_file():
            faults += [f"{place}  ({key})", f"  {first_look.missing(place)}"]
    if faults:
        raise ClipshiftError(
            "data that this study needs is missing or not as configured; relative folders lie "
            f"below the key `data` ({data}), which --config data=FOLDER moves\n  "
            + "\n  ".join(faults)
        )
    return found


def described(found: Mapping[str, Any]) -> list[str]:
    """What was found, in a line for each data set, and notes below it."""
    lines = []
    for name, entry in found.items():
        facts = [entry[key] for key in ("folder", "format") if key in entry]
        facts += [f"{entry[key]:,} {key}" for key in ("tars", "classes", "samples") if key in entry]
        if counts := entry.get("samples_per_class"):
            facts.append(f"{min(counts.values())} to {max(counts.values())} a class")
        lines.append(f"{entry['kind']}s.{name}: {', '.join(facts)}")
        lines += [f"  {line}" for line in entry["said"]]
    return lines


def _amount(entry: dict[str, Any], configured: int, kept: Mapping[str, int]) -> list[str]:
    """What is wrong with the number of samples, known or configured; notes go into `entry`."""
    known = entry.get("samples")
    if known is not None and known != configured:
        entry["said"].append(f"{known:,} samples, {configured:,} configured (its key `samples`)")
    lines = [
        f"{key} keeps {size:,}, of {known if known is not None else configured:,} samples"
        for key, size in kept.items()
        if size > (known if known is not None else configured)
    ]
    if known is None:
        entry["said"] += [f"{line} configured" for line in lines]
        return []
    return lines


def _pool(block: FolderPool, place: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of img2dataset's folder, and what is wrong with it."""
    if not place.is_dir():
        return {}, [first_look.missing(place)]
    names = {file.name for file in place.iterdir()}
    every = sorted(n.removesuffix(".parquet") for n in names if TABLE.fullmatch(n))
    stems = [f"{i:0{block.digits}d}" for i in range(block.tars)]
    there = [stem for stem in stems if f"{stem}.parquet" in names]
    if not there:
        return {}, [_no_tables(block, place, every, names)]
    said = []
    if beyond := sorted(set(every) - set(stems)):
        said.append(
            f"{len(beyond)} tars of {place} are left out: {_spelled(beyond)} (`tars` is "
            f"{block.tars}, `digits` {block.digits})"
        )
    numbers = [int(stem) for stem in there]
    faults = []
    if unfinished := [stem for stem in there if f"{stem}_stats.json" not in names]:
        faults.append(
            f"{len(unfinished)} tars without a _stats.json were never finished: "
            f"{_spelled(unfinished)}; run img2dataset again, it takes up unfinished ones"
        )
    if lost := [stem for stem in there if f"{stem}.tar" not in names]:
        faults.append(f"{len(lost)} tables without their tar: {_spelled(lost)}")
    bare = sorted(
        name for name in names if name.endswith(".tar") and f"{name[:-4]}.parquet" not in names
    )
    if bare:
        faults.append(f"{len(bare)} tars without their table (.parquet): {_spelled(bare)}")
    empty = [i for i in range(block.shards) if not _holds(block.group(i), numbers)]
    if empty:
        faults.append(f"{len(empty)} of {block.shards} shards have no tar; lower `shards`")
    gaps = [stem for stem in stems if f"{stem}.parquet" not in names]
    try:
        columns_of(place / f"{there[0]}.parquet")
    except ClipshiftError as error:
        faults.append(str(error))
    if not faults:
        faults = first_look.first_tar(place / f"{stem}.tar" for stem in there)
    entry = {"tars": len(there), "numbers_without_a_tar": gaps, "said": said}
    return entry | ({"numbers_beyond": beyond} if beyond else {}), faults


def _no_tables(block: FolderPool, place: Path, every: list[str], names: set[str]) -> str:
    """Why a folder holds none of the tables, with the key that mends it."""
    if every and len(every[0]) != block.digits:
        width = len(every[0])
        return f"its tars have numbers of {width} digits ({every[0]}.tar); add `digits: {width}`"
    if not every:
        tars = sum(name.endswith(".tar") for name in names)
        what = f"it has {tars} tars without tables" if tars else first_look.look_like(place)
        return (
            f"there is no {'0' * block.digits}.parquet or any after it: not a folder of "
            f"img2dataset's; {what or 'no format recognises it'}. Without `tars`, the pool is "
            "copied from any other format"
        )
    return f"its first tar is {every[0]}, above the {block.tars} `tars`"


def _holds(group: tuple[int, int], numbers: list[int]) -> bool:
    at = bisect_left(numbers, group[0])
    return at < len(numbers) and numbers[at] <= group[1]


def _captioned(block: CaptionedPool, place: Path, data: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of a folder of class folders, and of the captions for it."""
    captions = data / block.captions
    faults = [] if captions.is_file() else [f"there is no file {captions}  (its key `captions`)"]
    if not place.is_dir():
        return {}, [*faults, first_look.missing(place)]
    classes = sum(entry.is_dir() for entry in place.iterdir())
    if classes != block.classes:
        faults.append(f"{classes} class folders, expected {block.classes} (its key `classes`)")
    if not faults:
        files = (
            f for folder in sorted(place.iterdir()) if folder.is_dir() for f in folder.iterdir()
        )
        faults = first_look.first_image(Record(file.name, Place(file)) for file in files)
    return {"classes": classes, "captions": block.captions}, faults


def _set(block: FolderSet, place: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of a set in CLIP_benchmark's layout, and what is wrong with it."""
    if not place.is_dir():
        return {}, [first_look.missing(place)]
    if not (place / block.split).is_dir() and (seems := first_look.look_like(place)):
        return {}, [
            f"no folder {block.split!r} of CLIP_benchmark's layout (its key `split`); {seems}: add "
            f"`format: any` and the images are copied"
        ]
    faults = []
    try:
        class_names(block, place)
    except ClipshiftError as error:
        faults.append(str(error))
    try:
        tars = set_tars(place / block.split)
        return {"tars": len(tars)}, faults + first_look.first_tar(tars)
    except ClipshiftError as error:
        return {}, [*faults, str(error)]


def _spelled(names: list[str]) -> str:
    more = f" and {len(names) - SPELLED} more" if len(names) > SPELLED else ""
    return ", ".join(names[:SPELLED]) + more
