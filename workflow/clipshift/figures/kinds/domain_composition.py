"""Table: what every pool and test set is made of, by the detectors and corrected for their errors.

Labels by the sources or by people stand beside where they are known, to judge the correction by.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import DOMAINS_NOTE, domains, kind
from clipshift.figures.published import published_domains
from clipshift.study.config.classifier_base import DOMAINS
from clipshift.study.config.domains import DECISIONS
from clipshift.study.config.names import DatasetName
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


@kind(
    "domain_composition",
    section="domains",
    caption="Decisions counted, and shares corrected for the detectors' errors on the labelled "
    "test part (inversion of the confusion matrix; 95 % intervals). The correction supposes that "
    "the detectors err in each data set as in that part." + DOMAINS_NOTE,
    drawn=False,
)
class CompositionTable(FigureBlock):
    """What pools and test sets are made of (the paper's table 2)."""

    published: dict[DatasetName, Literal["laion_200m"]] = Field(
        default={}, description="Data set -> published composition to print beside it."
    )

    def files(self, at: Layout) -> Files:
        return {"composition": f"{domains(at).home}/composition.json"}


def rows(block: CompositionTable, composition: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per data set."""
    records = []
    # A file's objects are sorted by name; so is the table.
    for name, entry in composition["datasets"].items():
        row: dict[str, Any] = {"dataset": name, "n": entry["n"]}
        row |= {f"verdict_{v}": entry["verdicts"][v] for v in DECISIONS}
        for domain in DOMAINS:
            numbers = entry["corrected"].get(domain, {})  # none where nobody labelled it
            row |= {f"{domain}_{key}": numbers.get(key) for key in ("share", "low", "high")}
        labelled = entry["labelled"]
        row |= {f"labelled_{d}": labelled.get(d) for d in DOMAINS}
        records.append(row | _published(block, name))
    return records


def _published(block: CompositionTable, name: str) -> dict[str, Any]:
    reported = published_domains()["composition"].get(block.published.get(name, ""), {})
    total = reported.get("points")
    return {
        "published_n": total,
        "published_natural_share": reported["natural"] / total if total else None,
        "published_rendition_share": reported["rendition"] / total if total else None,
    }


@step(version=3)
def table(block: CompositionTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, read_json(Path(files["composition"]))))
