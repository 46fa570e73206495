"""The device that a step computes on: the same code on CPU and CUDA."""

import os

import torch

from clipshift.core.errors import ClipshiftError


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ClipshiftError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("expected cpu, cuda, cuda:1 ...")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ClipshiftError(
            f"device {name!r}: {str(error).splitlines()[0]}; `auto` takes what is there"
        ) from error
    return device


def available_cores() -> int:
    """Cores that this process may use: those of its job, not of the machine."""
    return len(os.sched_getaffinity(0))
