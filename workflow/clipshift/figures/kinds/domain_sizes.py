"""Accuracy of mixes against their total size, one line per share of natural points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import CLEAN_NOTE, OfClean, kind
from clipshift.figures.style import (
    LINES,
    house_style,
    label_below,
    legend_above,
    look,
    panels,
    save,
)
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.evaluation.by_domain import Condition


@kind(
    "domain_sizes",
    section="domains",
    caption="Accuracy of mixes against the size of the training set." + CLEAN_NOTE,
)
class DomainSizes(OfClean):
    """Accuracy of mixes against their total size, one line per share of natural points."""


def line_name(mix: list[int]) -> str:
    """The line of a mix: its share of natural points, or random.

    >>> line_name([300, 100, 0]), line_name([0, 0, 9])
    ('75 % natural', 'random')
    """
    natural, rendition, _ = mix
    if not natural + rendition:
        return "random"
    return f"{100 * natural / (natural + rendition):g} % natural"


def rows(
    block: DomainSizes, conditions: dict[str, Condition], mixes: dict[str, list[int]]
) -> list[dict[str, Any]]:
    """One row per domain and split, those of a line by size."""
    from clipshift.evaluation.by_domain import draw_means, interval

    records = []
    for domain in DETECTED:
        drawn = dict(
            zip(conditions, draw_means(conditions, domain, block.draws, block.seed), strict=True)
        )
        for split, condition in conditions.items():
            mix = mixes.get(split, [0, 0, 0])
            low, high = interval(drawn[split])
            records.append(
                {"domain": domain, "line": line_name(mix), "split": split, "total": sum(mix)}
                | {"natural": mix[0], "rendition": mix[1], "random": mix[2]}
                | {"variant": block.variant, "seeds": condition.seeds}
                | {"accuracy": condition.mean(domain), "low": low, "high": high}
            )
    return sorted(records, key=lambda r: (r["domain"], _rank(r), r["total"], r["split"]))


def _rank(r: dict[str, Any]) -> float:
    """Natural first, then less and less of it; random last."""
    total = r["natural"] + r["rendition"]
    return -r["natural"] / total if total else 1.0


def draw(numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per domain."""
    from clipshift.evaluation.by_domain import short

    lines = list(dict.fromkeys(r["line"] for r in numbers))
    totals = sorted({r["total"] for r in numbers})
    with house_style():
        figure, axes = panels(len(DETECTED), size=(3.0, 2.8), sharex=True, sharey=True)
        for axis, domain in zip(axes, DETECTED, strict=True):
            for i, line in enumerate(lines):
                series = [r for r in numbers if r["domain"] == domain and r["line"] == line]
                # Beside one another: a factor is a distance on a logarithmic axis.
                x = [r["total"] * 1.012 ** (i - len(lines) / 2) for r in series]
                y = [100 * r["accuracy"] for r in series]
                low = [max(0.0, v - 100 * r["low"]) for v, r in zip(y, series, strict=True)]
                high = [max(0.0, 100 * r["high"] - v) for v, r in zip(y, series, strict=True)]
                style = {"ls": LINES[i % len(LINES)], "lw": 1.3, "ms": 5, "capsize": 2}
                axis.errorbar(x, y, [low, high], label=line, **style, **look(i))
            axis.set_title(f"{domain} sets", fontsize=9)
        axes[0].set_xscale("log")
        axes[0].set_xticks(totals, [short(t) for t in totals])
        axes[0].minorticks_off()
        figure.supylabel("mean top-1 accuracy, %", fontsize=9)
        label_below(figure, "training points (bars: 95 % CI over images and seeds)")
        legend_above(figure, axes)
        save(figure, out, DomainSizes.caption)


@step(version=4)
def figure(block: DomainSizes, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.by_domain import read_conditions

    conditions = read_conditions(files["predictions"], files["clean"], block.variant)
    numbers = rows(block, conditions, study.mixes)
    write_csv(table, numbers)
    draw(numbers, out)
