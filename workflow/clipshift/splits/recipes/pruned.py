"""The recipe `pruned`."""

from typing import Literal

from pydantic import Field

from clipshift.splits.recipes import COLUMNS, SELECTS, by_set, deciding, parquet
from clipshift.study.config.names import TestSetName
from clipshift.study.config.numbers import Difference
from clipshift.study.config.recipe_base import (
    Candidates,
    Margins,
    Recipe,
    Rule,
    recipe,
    reference_rule,
)


@reference_rule("pruned")
class PrunedRule(Rule):
    """Similarity-gap pruning: remove what is closer to a test image than the reference set is."""

    recipe: Literal["pruned"] = Field(description=SELECTS)
    sets: list[TestSetName] = Field(
        min_length=1, description="Driving test sets; several remove the union (combined-pruned)."
    )
    tolerance: Difference = Field(
        default=0.0, description="Remove iff s(t_i, x) - s_i(reference) > tolerance, for some i."
    )

    @property
    def gap_tolerance(self) -> float:
        return self.tolerance

    def driving_sets(self) -> list[str]:
        return self.sets

    def score(self, points: str, scores: Margins) -> str:
        """Of several sets, that of the largest margin decides; of equal ones, the first."""
        source = by_set(_margins, self.sets, points, scores)
        return f"SELECT key, {COLUMNS} FROM {deciding(source, 'margin DESC, place')}"

    def kept(self, candidates: Candidates) -> str:
        # repr is the shortest text that reads back as the same float.
        return f"NOT margin > {self.tolerance!r}"

    def reason(self) -> str:
        return "'closer than the reference set'"


@recipe("pruned")
class Pruned(Recipe, PrunedRule):
    """Similarity-gap pruning: remove what is closer to a test image than the reference set is."""


def _margins(name: str, scores: Margins) -> str:
    return (
        "SELECT m.key, margin_test_key AS test_key, "
        "t.similarity + m.margin AS similarity, t.similarity AS threshold, m.margin "
        f"FROM {parquet(scores.margins[name])} m "
        f"JOIN {parquet([scores.thresholds[name]])} t ON t.test_key = m.margin_test_key"
    )
