"""Maxima so far, and how the pairs were decided."""

from dataclasses import dataclass

import torch

NONE = torch.iinfo(torch.int64).max


@dataclass
class Counts:
    """How the pairs of a scan were decided.

    Attributes:
        pairs: all of them.
        computed: those that the screen left open, computed in float64.
        bound: largest half-width of the screen's bound.
    """

    pairs: int = 0
    computed: int = 0
    bound: float = 0.0

    def add(self, other: "Counts") -> None:
        self.pairs += other.pairs
        self.computed += other.computed
        self.bound = max(self.bound, other.bound)


@dataclass
class Best:
    """Maxima of B rows over the columns seen so far.

    Attributes:
        value: (B,) float64; -inf where nothing was seen.
        index: (B,) int64, the first column that has it.
    """

    value: torch.Tensor
    index: torch.Tensor

    @classmethod
    def empty(cls, rows: int, where: torch.device) -> "Best":
        value = torch.full((rows,), -torch.inf, dtype=torch.float64, device=where)
        return cls(value, torch.full((rows,), NONE, device=where))

    def improve(self, r: torch.Tensor, value: torch.Tensor, index: torch.Tensor) -> None:
        """Take in pairs: row r[i], column index[i]."""
        new = self.value.scatter_reduce(0, r, value, "amax")
        first = torch.where(new > self.value, NONE, self.index)
        tied = value == new[r]
        # A GPU scatters in any order: of equals the lowest index is taken, not the last written.
        self.index = first.scatter_reduce(0, r[tied], index[tied], "amin")
        self.value = new

    def join(self, other: "Best", offset: int = 0) -> None:
        """Take in maxima over other columns, whose indices are `offset` too small."""
        index = torch.where(other.index == NONE, NONE, other.index + offset)
        better = (other.value > self.value) | ((other.value == self.value) & (index < self.index))
        self.value = torch.where(better, other.value, self.value)
        self.index = torch.where(better, index, self.index)
