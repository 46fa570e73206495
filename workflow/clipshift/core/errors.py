"""The one exception that users see, and the wrapper that turns it into a readable exit."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from clipshift.core.job_logs import ERROR


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


def run(main: Callable[[], None]) -> None:
    """Run a step; print a `ClipshiftError` or a full disk as one paragraph and exit 1.

    Anything else is a defect of ours and keeps its traceback.
    """
    log_to_stderr()
    try:
        main()
    except ClipshiftError as error:
        sys.exit(f"{ERROR}{error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        sys.exit(
            f"{ERROR}{error.filename or 'the output'} could not be written: "
            f"{error.strerror}. Nothing half-written was left under its final name. "
            "Free some space (results/work and results/sources are the largest) or set TMPDIR to "
            "another folder for temporary files, and run again."
        )
