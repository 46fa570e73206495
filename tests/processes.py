"""What runs on this machine, for tests that kill some of it."""

from contextlib import suppress

import psutil


def descendants(parent: int) -> set[int]:
    """Processes below one; none where it has ended."""
    with suppress(psutil.NoSuchProcess):
        return {process.pid for process in psutil.Process(parent).children(recursive=True)}
    return set()
