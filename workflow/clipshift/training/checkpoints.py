"""Which checkpoint a training continues from: the newest that is whole.

open_clip writes `epoch_{k}.pt` in place, then `epoch_latest.pt` beside and renamed, and continues
at the latter. A lost node may leave either torn, and a kill between the two leaves the latter
a part behind.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, sha256_file, write_json
from clipshift.core.weights import is_whole, read_saved
from clipshift.study.config.trainings import EpochTraining, Training
from clipshift.study.continuing import PROGRESS

LATEST = "epoch_latest.pt"
# Folder, in a work folder, of the weights of each epoch that is evaluated: `{epoch}.pt`.
EPOCHS = "epochs"


def save_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Write weights by name."""
    # To a stream: given a path, torch puts the file's name into its bytes.
    with atomic(path) as stream:
        torch.save(state, stream)


def plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of open_clip's program, without what DistributedDataParallel puts before names."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def keep_epoch(work: Path, part: int, epoch_parts: int, state: Mapping[str, Any]) -> None:
    """Keep the weights after a part that ends an epoch.

    Args:
        part: from 1; epoch_parts: parts of an epoch; 0 keeps none.
    """
    if epoch_parts and part % epoch_parts == 0:
        save_weights(work / EPOCHS / f"{part // epoch_parts}.pt", state)


def parts_of_epoch(training: Training) -> int:
    """Parts of a training by epochs between the ends of two epochs."""
    assert isinstance(training, EpochTraining)
    return training.checkpoints // training.epochs


def take_epochs(work: Path, folder: Path, samples: int) -> dict[str, dict[str, Any]]:
    """Move the weights of epochs from the work folder to a folder of results.

    Args:
        samples: of an epoch.

    Returns:
        for the record, epoch -> its samples seen and the digest of its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted((work / EPOCHS).glob("*.pt"), key=lambda file: int(file.stem))
    for file in files:
        with file.open("rb") as stream, atomic(folder / file.name) as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
    return {
        file.stem: {"samples_seen": int(file.stem) * samples, "sha256": sha256_file(file)}
        for file in files
    }


def tell_progress(work: Path, parts: int) -> None:
    """Say how many parts a checkpoint has: a start that got further costs no attempt."""
    write_json(work / PROGRESS, {"parts": parts})


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
