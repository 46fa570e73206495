"""Relative corrected performance, by each correction, against a direct computation."""

import numpy as np
import pytest
from pydantic import ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.by_domain import Condition
from clipshift.figures.kinds.domain_relative import DomainRelative, rows

N = 400
DOMAINS = {"photos": "natural", "drawings": "rendition"}


def condition(natural: list[float], rendition: list[float]) -> Condition:
    """A condition with these accuracies of its seeds."""
    correct = {
        name: np.stack([np.arange(N) < round(value * N) for value in values])
        for name, values in (("photos", natural), ("drawings", rendition))
    }
    return Condition(correct, {"photos": 0.1, "drawings": 0.2}, DOMAINS)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


# On a line of slope 1 in logit space, one unit below the diagonal.
NATURAL = [0.3, 0.5, 0.7]
EXPECTED = [1 / (1 + np.exp(1 - logit(x))) for x in NATURAL]
CONDITIONS = {
    "base": condition([0.5], [0.6]),
    "other": condition([0.5], [0.45]),
    "lined": condition(NATURAL, EXPECTED),
}


def block(correction: str, line: list[str] | None = None) -> DomainRelative:
    return DomainRelative(
        clean=list(DOMAINS), baseline="base", splits=["other"], correction=correction, draws=100,
        line=line or [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("correction", "line", "natural", "rendition"),
    [
        ("none", [], 1.0, 0.45 / 0.6),
        ("chance", [], 1.0, (0.45 - 0.2) / (0.6 - 0.2)),
        ("id_line", ["lined"], 1.0, (0.45 - EXPECTED[1]) / (0.6 - EXPECTED[1])),
    ],
)
def test_corrections(correction: str, line: list[str], natural: float, rendition: float) -> None:
    conditions = {name: CONDITIONS[name] for name in block(correction, line).conditions}
    entries = {r["domain"]: r for r in rows(block(correction, line), conditions)}
    assert entries["natural"]["relative"] == pytest.approx(natural)
    assert entries["rendition"]["relative"] == pytest.approx(rendition, abs=0.01)
    assert (
        entries["rendition"]["low"]
        < entries["rendition"]["relative"]
        < entries["rendition"]["high"]
    )
    assert {r["split"] for r in entries.values()} == {"other"}


def test_a_baseline_on_the_line_has_no_relation() -> None:
    conditions = CONDITIONS | {"base": condition([0.5], [EXPECTED[1] - 0.05])}
    with pytest.raises(ClipshiftError, match="not above the correction"):
        rows(block("id_line", ["lined"]), conditions)


def test_a_line_goes_with_its_correction() -> None:
    with pytest.raises(ValidationError, match="which needs it"):
        block("id_line")
    with pytest.raises(ValidationError, match="which needs it"):
        block("none", ["lined"])
