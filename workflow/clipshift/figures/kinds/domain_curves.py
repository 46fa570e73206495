"""Precision-recall curves of the domain classifiers on a labelled set, with operating points.

The threshold was chosen on the validation part; the mark says what it reaches on this set.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered, sharded
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfClassifiers, domains, kind
from clipshift.figures.style import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    house_style,
    label_below,
    legend_above,
    panels,
    save,
)
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.config.names import ClassifierName
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.classifiers.thresholds import Side
    from clipshift.study.layout.study import Layout

COLUMNS = ("threshold", "precision", "recall")


@kind(
    "domain_curves",
    section="domains",
    caption="Precision-recall curves of the domain classifiers. Thresholds are the lowest with the "
    "wanted precision on the validation part; marks show what they reach here.",
)
class DomainCurves(OfClassifiers):
    """Precision-recall curves of the domain classifiers, with their operating points."""

    classifiers: list[ClassifierName] = Field(
        min_length=1, description="Classifiers, one line each."
    )
    set: str = Field(
        default="test", description="Labelled set: `test`, `validation`, or a labelled test set."
    )

    def files(self, at: Layout) -> Files:
        """The labels of a test set; else, of what each classifier was fitted on, the parts."""
        dom = domains(at)
        tested = self.set in dom.measured
        datasets = [self.set] if tested else dom.labelled
        classifiers = self.classifiers
        return {
            "points": {c: dom.point(c) for c in classifiers},
            "labels": [dom.labels(self.set)] * tested,
            "parts": {} if tested else {c: dom.parts(c) for c in classifiers},
            "scores": {c: [numbered(dom.scores(c, d)) for d in datasets] for c in classifiers},
        }


def rows(block: DomainCurves, files: Files) -> list[dict[str, Any]]:
    """Every point of every curve, and the operating point of each (`mark`).

    Raises:
        ClipshiftError: there is no such labelled set.
    """
    from clipshift.classifiers.thresholds import curve, measured

    records: list[dict[str, Any]] = []
    for name in block.classifiers:
        sides = labelled(block, files, name)
        if not sides:
            raise ClipshiftError(f"figures.domain_curves: no labelled set {block.set!r}")
        points = read_json(Path(files["points"][name]))["domains"]
        for domain, entry in points.items():
            truth, scores = sides[domain]
            shared = {"classifier": name, "domain": domain, "set": block.set}
            # Without images of both kinds there is no curve.
            if truth.any() and not truth.all():
                precision, recall, thresholds = curve(truth, scores)
                numbers = zip(thresholds.tolist(), precision.tolist(), recall.tolist(), strict=True)
                records += [
                    shared | {"mark": 0} | dict(zip(COLUMNS, n, strict=True)) for n in numbers
                ]
            at = measured(truth, scores, entry["threshold"]) | {"threshold": entry["threshold"]}
            if None not in [at[c] for c in COLUMNS]:
                records.append(shared | {"mark": 1} | {c: at[c] for c in COLUMNS})
    return records


def labelled(block: DomainCurves, files: Files, name: str) -> dict[str, Side]:
    """Truth and scores of the set that is shown, by domain."""
    from clipshift.classifiers.folds import TEST, VALIDATION
    from clipshift.classifiers.thresholds import read_sides

    scores = [Path(file) for entry in files["scores"][name] for file in sharded(entry)]
    if files["labels"]:
        return read_sides(Path(files["labels"][0]), scores)
    if block.set not in (VALIDATION, TEST):
        return {}
    return read_sides(Path(files["parts"][name]), scores, block.set)


def draw(
    block: DomainCurves, numbers: list[dict[str, Any]], target: float, out: list[Path]
) -> None:
    """One panel per detected domain, a line per classifier."""
    with house_style():
        figure, axes = panels(len(DETECTED), size=(3.0, 2.9), sharex=True, sharey=True)
        for axis, domain in zip(axes, DETECTED, strict=True):
            for i, name in enumerate(block.classifiers):
                series = [r for r in numbers if (r["classifier"], r["domain"]) == (name, domain)]
                curve = [r for r in series if not r["mark"]]
                colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
                x, y = ([100 * r[c] for r in curve] for c in ("recall", "precision"))
                axis.plot(x, y, color=colour, ls=line, lw=1.2, label=name)
                for r in (r for r in series if r["mark"]):
                    axis.plot(
                        [100 * r["recall"]], [100 * r["precision"]], MARKERS[i % len(MARKERS)],
                        color=colour, mec="black", ms=7, zorder=5,
                    )  # fmt: skip
            axis.plot(
                [], [], "o", color="white", mec="black", ms=7, ls="none",
                label="operating point, from validation",
            )  # fmt: skip
            label = f"{100 * target:g} % precision"
            axis.axhline(100 * target, color=GREY, lw=0.9, ls=":", label=label)
            axis.set_title(f"{domain} detectors, {block.set}", fontsize=9)
        axes[0].set(xlim=(0, 102), ylim=(0, 103))
        figure.supylabel("precision, %", fontsize=9)
        label_below(figure, "recall, %")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: DomainCurves, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    numbers = rows(block, files)
    write_csv(table, numbers)
    target = read_json(Path(next(iter(files["points"].values()))))["precision"]
    draw(block, numbers, target, out)
