"""Numbers with their ranges: every number of a configuration is finite and has both ends."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Field

# The most samples, images or points of anything.
POINTS = 10**12
# The widest image, pixels.
PX = 8192
# Larger numbers mean nothing to another program.
MOST = 1e15
# The most bootstrap draws: their memory grows with them.
DRAWS = 100_000

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Similarity = Annotated[float, Field(ge=-1, le=1)]
# A difference of two similarities.
Difference = Annotated[float, Field(ge=-2, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Scaled:
    """Marks a value that the block `scale` makes smaller (see `config.scale`).

    Attributes:
        key: one of `scale`; or `samples` (images of a pool or set), `seen` (images that a training
            sees), `gaps` (numbers without a tar), `training` (keys of a training).
    """

    key: str


def _distinct(values: list[Any]) -> list[Any]:
    if twice := [v for i, v in enumerate(values) if v in values[:i]]:
        raise ValueError(f"{twice[0]} is there twice")
    return values


def _ascending(values: list[float]) -> list[float]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError("expected numbers that ascend")
    return values


Seeds = Annotated[list[Seed], AfterValidator(_distinct)]
Ascending = AfterValidator(_ascending)


def _plain(value: Any) -> Any:
    """Numbers at any depth are finite, and keys are texts."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise ValueError("expected keys that are texts")
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _plain(part)
    if isinstance(value, float | int) and not abs(value) < MOST:
        raise ValueError(f"{value!r} is no finite number, or above {MOST:g}")
    return value


# What another program takes, in plain values.
Json = Annotated[dict[str, Any], AfterValidator(_plain)]
