"""What ended a training in one of its processes, told to the step that started it.

An exception in a process that reads, or in one of torchrun's, reaches the step as an exit code. So
whoever meets a `ClipshiftError` writes it into the work folder, and the step raises it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json
from clipshift.core.locks import shared

_FAILURE = "failure.json"
DIVERGED = "diverged.json"
# File in a work folder that all processes of a training hold a lock on.
PROCESSES = "processes.lock"


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


def check(work: Path) -> None:
    """Raise the error that was written down, as a `ClipshiftError`."""
    path = work / _FAILURE
    if path.exists():
        raise ClipshiftError(str(read_json(path)["error"]))


@contextmanager
def one_process(work: Path) -> Iterator[None]:
    """One of the processes of a training: it holds their lock, and leaves the error that ends it.

    Where another process has said why, this one only lost it, and says nothing.
    """
    try:
        with shared(work / PROCESSES):
            yield
    except ClipshiftError as error:
        leave(work, error)
        sys.exit(1)
    except Exception:
        if not (work / _FAILURE).exists():
            raise
        sys.exit(1)


def leave_diverged(work: Path, error: ClipshiftError, record: dict[str, Any]) -> None:
    """Write down where a training diverged: it is not started again."""
    write_json(work / DIVERGED, record | {"error": str(error)})
    leave(work, error)
