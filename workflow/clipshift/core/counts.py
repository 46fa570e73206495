"""Counts of every step: what came in, what went out, and why the rest did not.

Each step writes one entry into its manifest; the report adds them up from the sources to the
splits and refuses when they do not agree.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from clipshift.core.errors import ClipshiftError


@dataclass
class StepCounts:
    """The counts of one step. `rejected` maps a reason to its count; reasons are for people."""

    step: str
    name: str
    came_in: int = 0
    went_out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Raise `ClipshiftError` unless in = out + rejected."""
        lost = self.came_in - self.went_out - sum(self.rejected.values())
        if lost:
            raise ClipshiftError(
                f"the counts of {self.step} {self.name!r} do not add up: {self.came_in} in, "
                f"{self.went_out} out, {dict(self.rejected)} rejected, {lost} unaccounted for"
            )

    def add(self, part: "StepCounts") -> None:
        """Add the counts of a part (a shard) of the same step."""
        self.came_in += part.came_in
        self.went_out += part.went_out
        self.rejected += part.rejected

    def as_json(self) -> dict[str, Any]:
        self.check()
        return {
            "step": self.step,
            "name": self.name,
            "in": self.came_in,
            "out": self.went_out,
            "rejected": dict(sorted(self.rejected.items())),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StepCounts":
        entry = cls(
            value["step"], value["name"], value["in"], value["out"], Counter(value["rejected"])
        )
        entry.check()
        return entry
