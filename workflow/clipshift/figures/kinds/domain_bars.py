"""Mean accuracy on natural and on rendition sets, and what each split loses against a baseline.

Means over the clean sets of a domain; intervals are bootstrapped over images and seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import (
    CLEAN_NOTE,
    DOMAINS_NOTE,
    VARIANTS,
    AgainstBaseline,
    PublishedTraining,
    kind,
)
from clipshift.figures.published import MARK_DOMAINS, published_domains
from clipshift.figures.style import COLOURS, GREY, house_style, legend_above, panels, save
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.config.names import TrainedSplit
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.evaluation.by_domain import Condition

HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")


@kind(
    "domain_bars",
    section="domains",
    caption="Mean accuracy on natural and on rendition sets." + CLEAN_NOTE + DOMAINS_NOTE,
)
class DomainBars(AgainstBaseline):
    """Mean accuracy on natural and on rendition sets, and the differences to a baseline."""

    published: dict[TrainedSplit, PublishedTraining] = Field(
        default={}, description="Split -> published training set to draw beside it."
    )


def rows(block: DomainBars, conditions: dict[str, Condition]) -> list[dict[str, Any]]:
    """Per domain one row per split, then its difference to the baseline."""
    from clipshift.evaluation.by_domain import draw_means, interval

    records = []
    for domain in DETECTED:
        names = conditions[block.baseline].sets(domain)
        if not names:
            continue
        drawn = dict(
            zip(conditions, draw_means(conditions, domain, block.draws, block.seed), strict=True)
        )
        n = sum(conditions[block.baseline].correct[name].shape[1] for name in names)
        shared = {"domain": domain, "sets": " ".join(names), "variant": block.variant, "n": n}
        for split, condition in conditions.items():
            low, high = interval(drawn[split])
            values = {"accuracy": condition.mean(domain), "low": low, "high": high}
            identity = {"split": split, "less_split": "", "seeds": condition.seeds}
            records.append(shared | identity | values | _published(block, split, domain))
        for split in (s for s in conditions if s != block.baseline):
            low, high = interval(drawn[split] - drawn[block.baseline])
            less = conditions[split].mean(domain) - conditions[block.baseline].mean(domain)
            identity = {
                "split": split,
                "less_split": block.baseline,
                "seeds": conditions[split].seeds,
            }
            values = {"accuracy": less, "low": low, "high": high}
            records.append(shared | identity | values | _published(block, "", domain))
    return records


def _published(block: DomainBars, split: str, domain: str) -> dict[str, Any]:
    """The published columns, empty where there is nothing."""
    if split not in block.published:
        return {"published": "", "published_accuracy": None}
    condition = published_domains()["arms"][block.published[split]]
    return {"published": condition["trained_on"], "published_accuracy": condition["means"][domain]}


def draw(block: DomainBars, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per domain, a bar per split."""
    domains = list(dict.fromkeys(r["domain"] for r in numbers))
    with house_style():
        figure, axes = panels(len(domains), size=(2.7, 2.5), sharey=True)
        for axis, domain in zip(axes, domains, strict=True):
            panel_rows = [r for r in numbers if r["domain"] == domain and not r["less_split"]]
            for place, r in enumerate(panel_rows):
                _bar(axis, place, r)
            axis.set_xticks([])
            axis.set_title(f"{domain} sets (n = {panel_rows[0]['n']:,})", fontsize=9)
        highest = max(
            [r["high"] for r in numbers] + [r["published_accuracy"] or 0 for r in numbers]
        )
        axes[0].set_ylim(0, min(100.0, 112 * highest))
        figure.supylabel(f"mean top-1 accuracy, %\n({VARIANTS[block.variant]})", fontsize=8)
        legend_above(figure, axes)
        save(figure, out, block.caption)


def _bar(axis: Any, place: int, r: dict[str, Any]) -> None:
    value = 100 * r["accuracy"]
    axis.bar(
        [place], [value], 0.7, color=COLOURS[place % len(COLOURS)], alpha=0.75, edgecolor="black",
        lw=0.6, hatch=HATCHES[place % len(HATCHES)], label=r["split"],
    )  # fmt: skip
    ends = [[max(0.0, value - 100 * r["low"])], [max(0.0, 100 * r["high"] - value)]]
    axis.errorbar([place], [value], ends, color="black", capsize=3, lw=1.1)
    axis.annotate(
        f"{value:.1f}", (place, 100 * r["high"]), (0, 2), textcoords="offset points", ha="center",
        fontsize=7.5,
    )  # fmt: skip
    if r["published_accuracy"] is not None:
        axis.plot(
            [place], [100 * r["published_accuracy"]], "D", mfc="white", mec=GREY, ms=6, ls="none",
            label=f"{MARK_DOMAINS}, other data",
        )  # fmt: skip


@step(version=4)
def figure(block: DomainBars, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.by_domain import read_conditions

    conditions = read_conditions(files["predictions"], files["clean"], block.variant)
    numbers = rows(block, conditions)
    write_csv(table, numbers)
    draw(block, numbers, out)
