"""Processes that end with the one that started them. Standard library only.

A killed parent leaves its children behind; a training or a download that is started again must not
meet the one before.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# From <linux/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let this process be killed as soon as its parent ends (on Linux; elsewhere nothing)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def die_with_starter(word: str) -> None:
    """Let this process be killed as soon as what started it ends (on Linux; elsewhere nothing).

    That is its parent; where that is only a shell for this command, or a launcher, the parent of
    that one, too, and so on: a shell lives on when the workflow that started it is killed.

    Args:
        word: a word of the command, by which its shells and launchers are known.
    """
    if not hasattr(os, "pidfd_open"):
        return
    above = []
    pid = os.getppid()
    with suppress(OSError, ValueError):  # ended, or not ours to see
        while pid > 1:
            above.append(os.pidfd_open(pid))
            if word.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
                break
            pid = _parent(pid)
    if above:
        threading.Thread(target=_end_after, args=(above,), daemon=True).start()


def _parent(pid: int) -> int:
    status = Path(f"/proc/{pid}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def _end_after(handles: Sequence[int]) -> None:
    """Kill this process when one of others has ended."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    poll.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def run_bound(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program that ends when this process does, and return its exit code."""
    done = subprocess.run(command, env=environment, check=False, preexec_fn=die_with_parent)
    return done.returncode
