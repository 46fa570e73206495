"""Table: precision and recall of every classifier and detected domain, on every labelled set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered, sharded
from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfClassifiers, domains, kind
from clipshift.study.config.names import ClassifierName
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


@kind(
    "domain_detectors",
    section="domains",
    caption="Precision and recall of every domain classifier on every labelled set, with 95 % "
    "Clopper-Pearson intervals.",
    drawn=False,
)
class DetectorTable(OfClassifiers):
    """Precision and recall of every classifier on every labelled set (the paper's table 1)."""

    classifiers: list[ClassifierName] = Field(
        min_length=1, description="Classifiers, in their order."
    )

    def files(self, at: Layout) -> Files:
        dom = domains(at)
        classifiers, measured = self.classifiers, dom.measured
        return {
            "points": {c: dom.point(c) for c in classifiers},
            "labels": {d: dom.labels(d) for d in measured},
            "scores": {c: {d: numbered(dom.scores(c, d)) for d in measured} for c in classifiers},
        }


def rows(
    block: DetectorTable, files: Files, classifiers: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """One row per classifier, domain and labelled set: the parts, and test sets with labels."""
    from clipshift.classifiers.thresholds import measured, read_sides

    records = []
    for name in block.classifiers:
        points = read_json(Path(files["points"][name]))
        tested = {
            place: read_sides(
                Path(labels), [Path(f) for f in sharded(files["scores"][name][place])]
            )
            for place, labels in files["labels"].items()
        }
        for domain, entry in points["domains"].items():
            sets = entry["parts"] | {
                place: dict(sorted(measured(*sides[domain], entry["threshold"]).items()))
                for place, sides in tested.items()
                if sides
            }
            for place, at in sorted(sets.items()):
                records.append(
                    {"classifier": name, **classifiers[name], "domain": domain}
                    | {"target_precision": points["precision"], "attained": entry["attained"]}
                    | {"bound_holds": entry["bound_holds"]}
                    | {"point_estimate": entry["point_estimate"]["threshold"]}
                    | {"threshold": entry["threshold"], "set": place, **at}
                )
    return records


@step(version=4)
def table(block: DetectorTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files, study.classifiers))
