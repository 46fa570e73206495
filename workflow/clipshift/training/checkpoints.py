"""Which checkpoint a training continues from: the newest that is whole.

open_clip writes `epoch_{k}.pt` in place, then `epoch_latest.pt` beside and renamed, and continues
at the latter. A lost node may leave either torn, and a kill between the two leaves the latter
a part behind.
"""

import shutil
import zipfile
from pathlib import Path

import torch

from clipshift.core.files import atomic

LATEST = "epoch_latest.pt"


def is_whole(checkpoint: Path) -> bool:
    """Whether every byte of a file written by `torch.save` is as it was written (by its CRCs)."""
    try:
        with zipfile.ZipFile(checkpoint) as file:
            return file.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def parts_done(checkpoint: Path) -> int:
    """Parts of a training that a whole checkpoint holds."""
    # Mapped: the weights, gigabytes of them, are not read for one number.
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return int(saved["epoch"])


def settle(folder: Path) -> int | None:
    """Make `epoch_latest.pt` the newest whole checkpoint of a folder, and say how far it is.

    Returns:
        the parts that it holds; None where there is no whole checkpoint.
    """
    latest = folder / LATEST
    if not is_whole(latest):
        latest.unlink(missing_ok=True)
    have = parts_done(latest) if latest.exists() else 0
    numbered = {int(f.stem.removeprefix("epoch_")): f for f in folder.glob("epoch_[0-9]*.pt")}
    for part in sorted(numbered, reverse=True):
        if part <= have:
            break
        if is_whole(numbered[part]):
            # Through a file beside it and a rename: a kill leaves the old one or the new one.
            with numbered[part].open("rb") as stream, atomic(latest) as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
            return part
    return have or None
