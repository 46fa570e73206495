"""The device that a step computes on: the same code on CPU and CUDA."""

import os

import torch


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def available_cores() -> int:
    """Cores that this process may use: those of its job, not of the machine."""
    return len(os.sched_getaffinity(0))
