"""Which checkpoint a training continues from: the newest that is whole.

open_clip writes `epoch_{k}.pt` in place, then `epoch_latest.pt` beside and renamed, and continues
at the latter. A lost node may leave either torn, and a kill between the two leaves the latter
a part behind.
"""

import re
import shutil
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic
from clipshift.core.weights import is_whole, read_saved

LATEST = "epoch_latest.pt"


def parts_done(checkpoint: Path) -> int:
    """Parts of a training that a whole checkpoint holds.

    Raises:
        ClipshiftError: it is no checkpoint of a training.
    """
    # Mapped: the weights, gigabytes of them, are not read for one number.
    saved = read_saved(checkpoint, mmap=True)
    done = saved.get("epoch") if isinstance(saved, dict) else None
    if not isinstance(done, int) or not isinstance(saved.get("state_dict"), dict):
        raise ClipshiftError(
            f"{checkpoint} is no checkpoint of a training (it lacks `epoch` or `state_dict`); "
            "delete it, and the training continues from the one before"
        )
    return done


def settle(folder: Path) -> int | None:
    """Make `epoch_latest.pt` the newest whole checkpoint of a folder, and say how far it is.

    Returns:
        the parts that it holds; None where there is no whole checkpoint.

    Raises:
        ClipshiftError: a whole file there is no checkpoint of a training.
    """
    latest = folder / LATEST
    if not is_whole(latest):
        latest.unlink(missing_ok=True)
    have = parts_done(latest) if latest.exists() else 0
    names = ((re.fullmatch(r"epoch_(\d+)\.pt", file.name), file) for file in folder.glob("*.pt"))
    numbered = {int(match[1]): file for match, file in names if match}
    for part in sorted(numbered, reverse=True):
        if part <= have:
            break
        if is_whole(numbered[part]) and parts_done(numbered[part]) == part:
            # Through a file beside it and a rename: a kill leaves the old one or the new one.
            with numbered[part].open("rb") as stream, atomic(latest) as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
            return part
    return have or None
