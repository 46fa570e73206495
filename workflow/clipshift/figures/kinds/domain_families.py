"""Table: the families of domain classifiers, their feature spaces and ablations, on one set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import domains, kind
from clipshift.figures.kinds.domain_curves import DomainCurves, labelled
from clipshift.study.config.names import ClassifierName
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.classifiers.classifier import Spec
    from clipshift.study.layout.study import Layout


@kind(
    "domain_families",
    section="domains",
    caption="Families of domain classifiers with their encoders and numbers of labels: precision "
    "and recall at the operating point, and average precision over all thresholds, with 95 % "
    "Clopper-Pearson intervals.",
    drawn=False,
)
class DomainFamilies(DomainCurves):
    """The families of domain classifiers and their ablations, side by side."""

    classifiers: list[ClassifierName] = Field(
        min_length=1, description="Classifiers, a row each and detected domain."
    )

    def files(self, at: Layout) -> Files:
        """As for the curves, and how each classifier was fitted."""
        dom = domains(at)
        return {**super().files(at), "records": {c: dom.record(c) for c in self.classifiers}}


def family(spec: Spec) -> str:
    """The family of a classifier, which its encoder decides, too."""
    if spec.classifier.form == "density_ratio":
        return "density ratio"
    if spec.encoder.describes_style:
        return "style descriptor"
    return "fine-tuning" if spec.classifier.tunes else spec.classifier.kind


def rows(block: DomainFamilies, files: Files) -> list[dict[str, Any]]:
    """One row per classifier and domain, in the order of the block.

    Raises:
        ClipshiftError: there is no such labelled set.
    """
    from clipshift.classifiers.classifier import Spec
    from clipshift.classifiers.thresholds import measured

    records = []
    for name in block.classifiers:
        record = read_json(Path(files["records"][name]))
        spec = Spec.model_validate(record["spec"])
        points = read_json(Path(files["points"][name]))
        if not (sides := labelled(block, files, name)):
            raise ClipshiftError(f"figures.domain_families: no labelled set {block.set!r}")
        shared = {
            "family": family(spec),
            "classifier": name,
            "kind": spec.classifier.kind,
            "form": spec.classifier.form,
            "encoder": spec.classifier.encoder,
            "tuned": spec.classifier.tunes and not getattr(spec.classifier, "frozen", False),
            "balanced": getattr(spec.classifier, "balanced", False),
            "labels": sum(record["learned_from"].values()),
        }
        for domain, entry in points["domains"].items():
            truth, scores = sides[domain]
            records.append(
                shared
                | {"domain": domain, "set": block.set, "target_precision": points["precision"]}
                | {"attained": entry["attained"], "threshold": entry["threshold"]}
                | measured(truth, scores, entry["threshold"])
                | average_precision(truth, scores)
            )
    return records


def average_precision(truth: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """Area under the precision-recall curve of N images; null where none is of the domain.

    The interval is a binomial one with the positives as n (Boyd, Eng and Page 2013).
    """
    from sklearn.metrics import average_precision_score

    from clipshift.stats.intervals import clopper_pearson

    positives = int(truth.sum())
    # Sums of exact shares may end a rounding above 1.
    area = min(1.0, float(average_precision_score(truth, scores))) if positives else None
    low, high = (None, None) if area is None else clopper_pearson(area * positives, positives)
    name = "average_precision"
    return {name: area, f"{name}_low": low, f"{name}_high": high}


@step(version=1)
def table(block: DomainFamilies, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
