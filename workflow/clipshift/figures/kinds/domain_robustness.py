"""Accuracy on every rendition set against the mean accuracy on the natural sets.

No line of ImageNet models is drawn: such a line holds for ImageNet and its shifted sets only. The
dotted diagonal is equal accuracy, no expectation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import OfClean, kind
from clipshift.figures.style import GREY, house_style, label_below, legend_above, look, panels, save
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.evaluation.by_domain import Condition


@kind(
    "domain_robustness",
    section="domains",
    caption="Accuracy on each rendition set against the mean on the natural sets; no line of "
    "ImageNet models, which holds for ImageNet and its shifted sets only.",
)
class DomainRobustness(OfClean):
    """Accuracy on every rendition set against the mean accuracy on the natural sets.

    Without a line of ImageNet models: one holds for ImageNet and its shifted sets only.
    """


def rows(
    block: DomainRobustness, conditions: dict[str, Condition], mixes: dict[str, list[int]]
) -> list[dict[str, Any]]:
    """One row per rendition set and split."""
    from clipshift.evaluation.by_domain import share_name
    from clipshift.stats.intervals import clopper_pearson

    records = []
    for split, condition in conditions.items():
        for name in condition.sets("rendition"):
            correct = condition.correct[name]
            n, top1 = correct.shape[1], float(correct.mean())
            low, high = clopper_pearson(min(top1 * n, n), n)
            records.append(
                {"set": name, "split": split, "made_of": share_name(mixes.get(split))}
                | {"seeds": condition.seeds, "variant": block.variant}
                | {"natural_accuracy": condition.mean("natural"), "n": n, "top1": top1}
                | {"top1_low": low, "top1_high": high}
            )
    return records


def draw(block: DomainRobustness, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per rendition set."""
    names = list(dict.fromkeys(r["set"] for r in numbers))
    with house_style():
        figure, axes = panels(len(names), size=(2.8, 2.8), sharex=True, sharey=True)
        for axis, name in zip(axes, names, strict=True):
            panel_rows = [r for r in numbers if r["set"] == name]
            for i, r in enumerate(panel_rows):
                y = 100 * r["top1"]
                ends = [[y - 100 * r["top1_low"]], [100 * r["top1_high"] - y]]
                label = f"{r['split']} ({r['made_of']})"
                # Looks repeat after six splits: from there on they are hollow.
                axis.errorbar(
                    [100 * r["natural_accuracy"]], [y], ends, ls="none", ms=5, capsize=2,
                    label=label, mfc=look(i)["color"] if i < 6 else "white", **look(i),
                )  # fmt: skip
            axis.plot([0, 100], [0, 100], ls=":", lw=0.9, color=GREY, label="equal accuracy")
            axis.set_title(f"{name} (n = {panel_rows[0]['n']:,})", fontsize=9)
        highest = max(max(r["top1_high"], r["natural_accuracy"]) for r in numbers)
        axes[0].set(xlim=(0, min(100, 115 * highest)), ylim=(0, min(100, 115 * highest)))
        figure.supylabel("accuracy on the rendition set, %", fontsize=9)
        label_below(figure, "mean accuracy on the natural sets, %")
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(
    block: DomainRobustness, files: Files, study: Study, table: Path, out: list[Path]
) -> None:
    from clipshift.evaluation.by_domain import read_conditions

    conditions = read_conditions(files["predictions"], files["clean"], block.variant)
    numbers = rows(block, conditions, study.mixes)
    write_csv(table, numbers)
    draw(block, numbers, out)
