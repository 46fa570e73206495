"""Mean accuracy on natural against rendition sets, the mixing ratio written at every point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import CLEAN_NOTE, DOMAINS_NOTE, OfClean, PublishedTraining, kind
from clipshift.figures.published import MARK_DOMAINS, published_domains
from clipshift.figures.style import GREY, MARKERS, house_style, legend_above, panels, save
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.evaluation.by_domain import Condition


@kind(
    "domain_mixes",
    section="domains",
    caption="Natural against rendition accuracy; at every point the natural points and renditions "
    "of the training set." + CLEAN_NOTE + DOMAINS_NOTE,
)
class DomainMixes(OfClean):
    """Natural against rendition accuracy, the mixing ratio written at every point."""

    published: list[PublishedTraining] = Field(
        default=[], description="Published training sets to draw beside ours."
    )


def rows(
    block: DomainMixes, conditions: dict[str, Condition], mixes: dict[str, list[int]]
) -> list[dict[str, Any]]:
    """One row per split: what it is made of, and both mean accuracies with intervals."""
    from clipshift.evaluation.by_domain import draw_means, interval

    records = []
    drawn = {
        d: dict(zip(conditions, draw_means(conditions, d, block.draws, block.seed), strict=True))
        for d in DETECTED
    }
    for split, condition in conditions.items():
        natural, rendition, random = mixes.get(split, [0, 0, 0])
        row: dict[str, Any] = {"split": split, "natural": natural, "rendition": rendition}
        row |= {"random": random, "total": natural + rendition + random, "seeds": condition.seeds}
        row |= {"variant": block.variant}
        for domain in DETECTED:
            low, high = interval(drawn[domain][split])
            row |= {f"{domain}_accuracy": condition.mean(domain)}
            row |= {f"{domain}_low": low, f"{domain}_high": high}
        records.append(row)
    for which in block.published:
        condition = published_domains()["arms"][which]
        means = condition["means"]
        row = dict.fromkeys(records[0]) | {"split": f"{MARK_DOMAINS}: {condition['trained_on']}"}
        records.append(row | {f"{d}_accuracy": means[d] for d in DETECTED})
    return records


def share(row: dict[str, Any]) -> float | None:
    """Share of natural points; None for a random split."""
    total = row["natural"] + row["rendition"]
    return row["natural"] / total if total else None


def draw(block: DomainMixes, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel; colour: share of natural points, marker: total size."""
    import matplotlib

    from clipshift.evaluation.by_domain import short

    colours = matplotlib.colormaps["viridis"]
    ours = [r for r in numbers if r["natural"] is not None]
    totals = sorted({r["total"] for r in ours})
    with house_style():
        figure, (axis,) = panels(1, size=(5.2, 4.0))
        for r in ours:
            _point(axis, r, colours, MARKERS[totals.index(r["total"]) % len(MARKERS)])
        for r in (r for r in numbers if r["natural"] is None):
            x, y = (100 * r[f"{d}_accuracy"] for d in DETECTED)
            axis.plot([x], [y], "D", mfc="white", mec=GREY, ms=6, ls="none", label=MARK_DOMAINS)
            _text(axis, x, y, r["split"].split(": ")[-1])
        for i, total in enumerate(totals):
            label = f"{short(total)} points" if total else "size by recipe"
            axis.plot([], [], MARKERS[i % len(MARKERS)], color=GREY, label=label, ls="none")
        scale = matplotlib.cm.ScalarMappable(cmap=colours)
        scale.set_clim(0, 1)
        bar = figure.colorbar(scale, ax=axis, shrink=0.8)
        bar.set_label("share of natural points (grey: drawn at random)", fontsize=8)
        axis.set_xlabel("mean accuracy on natural sets, %")
        axis.set_ylabel("mean accuracy on rendition sets, %")
        axis.margins(0.12)
        legend_above(figure, [axis])
        save(figure, out, block.caption)


def _point(axis: Any, r: dict[str, Any], colours: Any, marker: str) -> None:
    from clipshift.evaluation.by_domain import share_name

    (x, x_ends), (y, y_ends) = ((100 * r[f"{d}_accuracy"], _ends(r, d)) for d in DETECTED)
    natural = share(r)
    colour = "#999999" if natural is None else colours(natural)
    axis.errorbar(
        [x], [y], y_ends, x_ends, marker=marker, color=colour, mec="black", mew=0.6, ms=6.5,
        elinewidth=0.7, ls="none",
    )  # fmt: skip
    mix = [r["natural"], r["rendition"], r["random"]]
    _text(axis, x, y, share_name(mix if sum(mix) else None))


def _ends(r: dict[str, Any], domain: str) -> list[list[float]]:
    value = 100 * r[f"{domain}_accuracy"]
    low, high = 100 * r[f"{domain}_low"], 100 * r[f"{domain}_high"]
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _text(axis: Any, x: float, y: float, text: str) -> None:
    axis.annotate(text, (x, y), (5, 4), textcoords="offset points", fontsize=7.5, zorder=6)


@step(version=4)
def figure(block: DomainMixes, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.by_domain import read_conditions

    conditions = read_conditions(files["predictions"], files["clean"], block.variant)
    numbers = rows(block, conditions, study.mixes)
    write_csv(table, numbers)
    draw(block, numbers, out)
