"""What ended a training in one of its processes, told to the step that started it.

An exception in a process that reads, or in one of torchrun's, reaches the step as an exit code. So
whoever meets a `ClipshiftError` writes it into the work folder, and the step raises it.
"""

import os
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json

_FAILURE = "failure.json"
DIVERGED = "diverged.json"


def forget(work: Path) -> None:
    """Remove what an earlier start left; one that diverged would again, and is an error.

    Raises:
        ClipshiftError: this very training diverged before.
    """
    (work / _FAILURE).unlink(missing_ok=True)
    if (work / DIVERGED).exists():
        raise ClipshiftError(read_json(work / DIVERGED)["error"])


def leave(work: Path, error: ClipshiftError) -> None:
    """Write down the error that ends a training; the first one counts."""
    if not (work / _FAILURE).exists():
        write_json(work / _FAILURE, {"error": str(error), "pid": os.getpid()})


def found(work: Path) -> str | None:
    """The error that was written down."""
    path = work / _FAILURE
    return str(read_json(path)["error"]) if path.exists() else None


def leave_diverged(work: Path, error: ClipshiftError, record: dict[str, Any]) -> None:
    """Write down where a training diverged: it is not started again."""
    write_json(work / DIVERGED, record | {"error": str(error)})
    leave(work, error)
