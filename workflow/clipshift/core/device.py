"""The device that a step computes on: the same code on CPU and CUDA."""

import os
from collections.abc import Callable

import torch

# The types that a precision's products have; those of float32 are torch's own.
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Forward = Callable[[torch.Tensor], torch.Tensor]


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def available_cores() -> int:
    """Cores that this process may use: those of its job, not of the machine."""
    return len(os.sched_getaffinity(0))


def autocast(forward: Forward, device: torch.device, precision: str) -> Forward:
    """A forward pass in a precision; what it gives is float32."""
    if precision not in HALVES:
        return forward

    def cast(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, HALVES[precision]):
            return forward(pixels).float()

    return cast
