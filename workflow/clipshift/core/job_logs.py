"""What the jobs of a run told people: the notes and errors in their logs, for the end of the run.

Snakemake says of a failed job that it failed. Why stands in the job's log, which on a cluster is
the only place that a job can write to.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

ERROR = "clipshift: error: "
NOTE = "clipshift: note: "
TRACEBACK = "Traceback (most recent call last):"
# Logs that are quoted, and the last lines of one without a sentence for people.
QUOTED = 10
LINES = 12


def note(text: str) -> None:
    """Say something that is no error, and that nobody should miss."""
    print(f"{NOTE}{text}", file=sys.stderr)


def told(logs: Path, since: float) -> str:
    """Notes, tracebacks, then errors for people, of the logs that were written since a time.

    Equal ones are said once, with the first log that has them.

    Args:
        since: seconds, by the clock of the file system that the logs lie on.
    """
    notes: dict[str, Path] = {}
    errors: dict[str, Path] = {}
    for log in _written(logs, since):
        text = log.read_text(errors="replace")
        for line in text.splitlines():
            if line.startswith(NOTE):
                notes.setdefault(line, log)
        if error := _error(text):
            errors.setdefault(error, log)
    blocks = list(notes)
    quoted = sorted(list(errors.items())[:QUOTED], key=lambda item: item[0].startswith(ERROR))
    blocks += [f"\nand {len(errors) - QUOTED} more failed jobs"] * (len(errors) > QUOTED)
    blocks += [f"\n{log}:\n{error}" for error, log in quoted]
    return "".join(f"{block}\n" for block in blocks)


def _written(logs: Path, since: float) -> Iterator[Path]:
    for folder, folders, names in os.walk(logs):
        folders.sort()
        for log in (Path(folder, name) for name in sorted(names)):
            if log.stat().st_mtime >= since:
                yield log


def _error(text: str) -> str | None:
    """From the last error for people to the end, or the last lines of a traceback."""
    if (at := f"\n{text}".rfind(f"\n{ERROR}")) >= 0:
        return text[at:].strip()
    if TRACEBACK in text:
        return "\n".join(text.strip().splitlines()[-LINES:])
    return None
