"""Locks on files, held by a process for as long as it lives. Standard library only.

They are `flock`s: the kernel releases one when its process ends, however it ends.
"""

import errno
import fcntl
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@dataclass
class Held:
    """A lock that is held.

    Attributes:
        earlier: what a process that held it while this one waited left in `left`.
        left: for a process that waits for it.
    """

    earlier: dict[str, Any] = field(default_factory=dict)
    left: dict[str, Any] = field(default_factory=dict)


@contextmanager
def exclusive(
    path: Path, busy: Callable[[str], None] | None = None,
    without: Callable[[str], None] | None = None,
) -> Iterator[Held]:  # fmt: skip
    """Hold a lock alone; wait, and say so, while another process has it.

    The file says who holds it, and is removed at the end. Where the file system has no locks there
    is a warning, and no lock.

    Args:
        busy: gets who holds it; in place of the message, and of waiting where it raises.
        without: gets why there are no locks, in place of the warning.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = Held()
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock(handle, fcntl.LOCK_EX, path, busy, without)
        except BaseException:
            os.close(handle)
            raise
        if not locked or _is_at(handle, path):
            break
        # Its holder ended while this process waited, and removed it.
        held.earlier = _read(handle).get("left", {})
        os.close(handle)
    try:
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        _write(handle, me)
        yield held
        if held.left:
            _write(handle, me | {"left": held.left})
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock together with others, of which `wait_for` waits for the last."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(handle, fcntl.LOCK_SH, path)
        yield
    finally:
        os.close(handle)


def wait_for(path: Path) -> None:
    """Wait until no process holds a shared lock of a file, if it is there."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR)
        try:
            _lock(handle, fcntl.LOCK_EX, path)
        finally:
            os.close(handle)


def _lock(
    handle: int, how: int, path: Path, busy: Callable[[str], None] | None = None,
    without: Callable[[str], None] | None = None,
) -> bool:  # fmt: skip
    """Lock an open file, waiting for it; False: its file system has no locks.

    Args:
        busy, without: see `exclusive`.
    """

    def wait(holder: str) -> None:
        LOG.warning(
            f"{path} is held by {holder}, which does the same work: waiting for it to end. Its "
            "result, or its last checkpoint, is used then; end it to go on at once"
        )

    def warn(why: str) -> None:
        LOG.warning(
            f"{path} cannot be locked ({why}): its file system has no locks. Take care that no two "
            "runs work in this folder at once"
        )

    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            (without or warn)(error.strerror or str(error))
            return False
        (busy or wait)(_holder(handle))
        fcntl.flock(handle, how)
    return True


def _holder(handle: int) -> str:
    """Who has written into a lock."""
    value = _read(handle)
    if "pid" not in value:
        return "one that has just begun"
    return f"process {value['pid']} on {value['host']} since {value['since']}"


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _read(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 1 << 16, 0) or b"{}")
    except ValueError:  # it is being written
        return {}
    return found if isinstance(found, dict) else {}


def _write(handle: int, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, data, 0)
