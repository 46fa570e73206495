"""The one exception that users see, and the wrapper that turns it into a readable exit."""

import errno
import io
import logging
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from clipshift.core.job_logs import ERROR

# Open files that a program asks for, where it may have so many.
FILES = 1 << 16


class ClipshiftError(Exception):
    """A problem that the user can mend: says what, where (file, row, key) and the remedy."""


def log_to_stderr() -> None:
    """Messages of this package go to stderr; `CLIPSHIFT_LOG=WARNING` or another level limits them.

    Only ours: what torch and open_clip log at the same level is none of the reader's.
    """
    log = logging.getLogger("clipshift")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(os.environ.get("CLIPSHIFT_LOG", "INFO").upper())


# What a system's errors about a file mean for its user, and what to do.
_REMEDIES = {
    errno.ENOENT: "is it there, and is its folder?",
    errno.EACCES: "you may not do that there: choose another place, or ask for the permission",
    errno.EPERM: "you may not do that there: choose another place, or ask for the permission",
    errno.EROFS: "choose another place, where you may write",
    errno.EEXIST: "choose another place: what is there is no folder to write into",
    errno.ENOTDIR: "a part of this path is no folder: choose another place",
    errno.EISDIR: "it is a folder, where a file is meant",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "it is a link that leads back to itself: remove it",
    errno.EMFILE: "raise the limit of open files (`ulimit -n 4096`)",
    errno.ENFILE: "the machine has too many open files: end other programs",
    errno.ENXIO: "it is a pipe, a socket or a device, where a file is meant",
    errno.EIO: "its disk fails: copy it elsewhere and run again",
    errno.ESTALE: "its file server lost it: run again",
}


def _is_somewhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _told(error: BaseException) -> str | None:
    """An error of the machine or of a file as a paragraph; None: a defect of ours."""
    if isinstance(error, OSError):
        file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | Path) else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return (
                f"{file or 'the output'} could not be written: {error.strerror}. "
                "Nothing half-written was left under its final name. Free some space "
                "(results/work and results/sources are the largest) or set TMPDIR to another "
                "folder for temporary files, and run again."
            )
        if isinstance(error, FileNotFoundError) and not file and not _is_somewhere():
            return "the folder that this was started in is gone: `cd` to another one"
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{file}: {error.strerror}; {remedy}" if file and remedy else None
    if isinstance(error, UnicodeEncodeError):  # nearly always the name of a file
        near = error.object[max(0, error.start - 80) : error.end + 20]
        return f"{near!r} is no Unicode and cannot be written; rename the file of this name"
    if isinstance(error, UnicodeError):
        return f"a text is not UTF-8 ({error}); save the file that holds it as UTF-8"
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply; is one of the files damaged?"
    if isinstance(error, MemoryError):
        return (
            f"there is not enough memory ({error or 'no more is given'}); run it where there is "
            "more, or with less at once"
        )
    return None


def allow_open_files() -> None:
    """Raise the limit of open files as far as a program may by itself: 1,024 is the usual one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def run(main: Callable[[], None]) -> None:
    """Run a step or a verb; print a `ClipshiftError`, or what is wrong with a file or the machine,
    as one paragraph and exit 1.

    Anything else is a defect of ours and keeps its traceback; `CLIPSHIFT_LOG=DEBUG` shows all.
    """
    log_to_stderr()
    allow_open_files()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names that are no text
    try:
        main()
    except ClipshiftError as error:
        sys.exit(f"{ERROR}{error}")
    except Exception as error:
        if (said := _told(error)) is None:
            raise
        logging.getLogger("clipshift").debug("", exc_info=True)
        sys.exit(f"{ERROR}{said}")
