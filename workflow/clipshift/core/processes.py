"""Processes that end with the one that started them. Standard library only.

A killed parent leaves its children behind; a training or a download that is started again must not
meet the one before.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

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


def run_bound(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program that ends when this process does, and return its exit code."""
    done = subprocess.run(command, env=environment, check=False, preexec_fn=die_with_parent)
    return done.returncode
