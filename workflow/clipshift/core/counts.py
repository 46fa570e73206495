"""Counts of every step: what came in, what went out, and why the rest did not.

Each step writes one entry into its manifest; the report adds them up from the sources to the
splits and refuses when they do not agree.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipshift.core.errors import ClipshiftError

# Of all items, how many may be left out as damaged before a step refuses to go on.
TOLERATED = 0.01


def tolerate(left_out: Mapping[str, str], total: int, what: str, share: float = TOLERATED) -> None:
    """Let a share of some items be left out, and one in any case.

    Args:
        left_out: key -> reason; what: names the items and the place they come from.

    Raises:
        ClipshiftError: more of them are left out, or all; it lists them.
    """
    if len(left_out) <= max(1, share * total) and len(left_out) < max(1, total):
        return
    some = "; ".join(f"{key!r}: {why}" for key, why in sorted(left_out.items())[:20])
    more = f"; and {len(left_out) - 20} more" if len(left_out) > 20 else ""
    raise ClipshiftError(
        f"{len(left_out)} of {total} {what} are unusable, more than {share:.3g} of them ({some}"
        f"{more}); replace them, or take them out"
    )


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
