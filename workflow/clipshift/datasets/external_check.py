"""Whether the data that the user already has are there and whole: one check, one message.

A record per data set holds the numbers of tars or classes. Nothing is read but listings and small
files: seconds for tens of thousands of tars.
"""

import os
from bisect import bisect_left
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json
from clipshift.core.step import step
from clipshift.datasets.tar_paths import data_folder, set_tars
from clipshift.study.config.folders import CaptionedPool, FolderPool, FolderSet

# Names of a list that a message spells out.
SPELLED = 3

Folders = dict[str, FolderPool | CaptionedPool | FolderSet]


@step(version=1)
def check(folders: Folders, out: Path) -> None:
    """Write `{dataset}.json` for each of some folders (see `take_stock`)."""
    for name, entry in take_stock(folders, data_folder()).items():
        write_json(out / f"{name}.json", entry)


def take_stock(folders: Folders, data: Path) -> dict[str, Any]:
    """What is there of each data set: its tars, and the numbers without one.

    Raises:
        ClipshiftError: anything is missing or unfinished; the message lists all of it, with the
            place, the configuration's key and how to get it.
    """
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name, block in folders.items():
        pool = not isinstance(block, FolderSet)
        place = Path(os.path.abspath(data / block.folder))  # noqa: PTH100 (a link stays a link)
        key = f"{'pools' if pool else 'sets'}.{name}.folder"
        if isinstance(block, CaptionedPool):
            entry, what = _captioned(block, place, data)
        elif isinstance(block, FolderPool):
            entry, what = _pool(block, place)
        else:
            entry, what = _set(block, place)
        found[name] = {"kind": "pool" if pool else "set", "folder": block.folder} | entry
        if what:
            lines = [f"{place}  ({key})", *(f"  {line}" for line in what)]
            how = block.obtain.strip().splitlines()
            lines += ["  to get it:"] * bool(how) + [f"    {line}" for line in how]
            faults += lines
    if faults:
        raise ClipshiftError(
            "data that this study needs is missing; relative folders lie below the key `data` "
            f"({data}), which --config data=FOLDER moves\n  " + "\n  ".join(faults)
        )
    return found


def _pool(block: FolderPool, place: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of img2dataset's folder, and what is wrong with it."""
    if not place.is_dir():
        return {}, ["there is no such folder"]
    names = {file.name for file in place.iterdir()}
    numbers = [i for i in range(block.tars) if f"{i:05d}.parquet" in names]
    if not numbers:
        return {}, ["there is no 00000.parquet or any after it: not a folder of img2dataset's"]
    faults = []
    if unfinished := [f"{i:05d}" for i in numbers if f"{i:05d}_stats.json" not in names]:
        faults.append(
            f"{len(unfinished)} tars without a _stats.json were never finished: "
            f"{_spelled(unfinished)}; run img2dataset again, it takes up unfinished ones"
        )
    if lost := [f"{i:05d}" for i in numbers if f"{i:05d}.tar" not in names]:
        faults.append(f"{len(lost)} tables without their tar: {_spelled(lost)}")
    bare = sorted(
        name for name in names if name.endswith(".tar") and f"{name[:-4]}.parquet" not in names
    )
    if bare:
        faults.append(f"{len(bare)} tars without their table (.parquet): {_spelled(bare)}")
    empty = [i for i in range(block.shards) if not _holds(block.group(i), numbers)]
    if empty:
        faults.append(f"{len(empty)} of {block.shards} shards have no tar; lower `shards`")
    there = set(numbers)
    gaps = [f"{i:05d}" for i in range(block.tars) if i not in there]
    return {"tars": len(numbers), "numbers_without_a_tar": gaps}, faults


def _holds(group: tuple[int, int], numbers: list[int]) -> bool:
    at = bisect_left(numbers, group[0])
    return at < len(numbers) and numbers[at] <= group[1]


def _captioned(block: CaptionedPool, place: Path, data: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of a folder of class folders, and of the captions for it."""
    captions = data / block.captions
    faults = [] if captions.is_file() else [f"there is no file {captions}  (its key `captions`)"]
    if not place.is_dir():
        return {}, [*faults, "there is no such folder"]
    classes = sum(entry.is_dir() for entry in place.iterdir())
    if classes != block.classes:
        faults.append(f"{classes} class folders, expected {block.classes} (its key `classes`)")
    return {"classes": classes, "captions": block.captions}, faults


def _set(block: FolderSet, place: Path) -> tuple[dict[str, Any], list[str]]:
    """What is there of a set in CLIP_benchmark's layout, and what is wrong with it."""
    if not place.is_dir():
        return {}, ["there is no such folder"]
    faults = [] if (place / "classnames.txt").exists() else ["it has no classnames.txt"]
    try:
        return {"tars": len(set_tars(place / block.split))}, faults
    except ClipshiftError as error:
        return {}, [*faults, str(error)]


def _spelled(names: list[str]) -> str:
    more = f" and {len(names) - SPELLED} more" if len(names) > SPELLED else ""
    return ", ".join(names[:SPELLED]) + more
