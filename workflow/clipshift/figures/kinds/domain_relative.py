"""Accuracy relative to that of a baseline, both less a correction, per domain.

relative = (mean accuracy - correction) / (baseline's mean accuracy - correction). The paper gives
no formula for its correction, so the one that was used is printed in figure and table. By
`id_line` what is left is effective robustness, relative to that of the baseline.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_csv
from clipshift.core.step import step
from clipshift.figures.kind import (
    CLEAN_NOTE,
    DOMAINS_NOTE,
    AgainstBaseline,
    PublishedTraining,
    kind,
)
from clipshift.figures.published import MARK_DOMAINS, published_domains
from clipshift.figures.style import COLOURS, GREY, MARKERS, house_style, legend_above, panels, save
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.config.names import TrainedSplit
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    import numpy as np

    from clipshift.evaluation.by_domain import Condition
    from clipshift.evaluation.robustness.lines import Line
    from clipshift.evaluation.robustness.points import Accuracy, Axis

    Means = dict[str, np.ndarray]

SAID = {
    "none": "no correction",
    "chance": "less chance level",
    "id_line": "less the line's expectation",
}


@kind(
    "domain_relative",
    section="domains",
    caption="Mean accuracy relative to that of a baseline of the same size, after the correction "
    "that the axis names." + CLEAN_NOTE + DOMAINS_NOTE,
)
class DomainRelative(AgainstBaseline):
    """Accuracy relative to that of a baseline, both less a correction.

    The paper has no formula for its corrected performance; the figure prints the one that it used.
    """

    correction: Literal["none", "chance", "id_line"] = Field(
        default="chance",
        description="What is taken off both accuracies: nothing; chance level; or, on rendition "
        "sets, what the line of `line` expects at the accuracy on the natural sets (on natural "
        "sets chance level, since there the line has nothing to say).",
    )
    line: list[TrainedSplit] = Field(
        default=[],
        description="For `id_line`: splits whose runs the line is fitted to, e.g. models of one "
        "domain alone.",
    )
    published: dict[TrainedSplit, PublishedTraining] = Field(
        default={}, description="Split -> published training set to draw beside it."
    )

    @property
    def conditions(self) -> list[str]:
        """Those to compare, and those that the line needs."""
        return list(dict.fromkeys([*super().conditions, *self.line]))

    @model_validator(mode="after")
    def _line_where_asked(self) -> DomainRelative:
        if (self.correction == "id_line") != bool(self.line):
            raise ValueError("`line` goes with `correction: id_line`, which needs it")
        return self


def rows(block: DomainRelative, compared: dict[str, Condition]) -> list[dict[str, Any]]:
    """Per domain one row per split other than the baseline.

    Raises:
        ClipshiftError: the baseline is at or below the correction: there is no relation to it.
    """
    from clipshift.evaluation.by_domain import interval

    records = []
    base = compared[block.baseline]
    line = _line(block, compared) if block.correction == "id_line" else None
    for domain in (d for d in DETECTED if base.sets(d)):
        names = base.sets(domain)
        means = {split: condition.mean(domain) for split, condition in compared.items()}
        single = taken_off(line, block.correction, compared, domain, _natural(compared))
        off = {split: float(value[0]) for split, value in single.items()}
        drawn = _draws(block, compared, domain)
        drawn_off = taken_off(
            line, block.correction, compared, domain, _draws(block, compared, "natural")
        )
        if means[block.baseline] <= off[block.baseline]:
            raise ClipshiftError(
                f"the baseline {block.baseline} is at {means[block.baseline]:.3f} on the {domain} "
                f"sets, not above the correction {off[block.baseline]:.3f}; take "
                "`correction: none`"
            )
        lost = {split: drawn[split] - drawn_off[split] for split in compared}
        # A draw in which the baseline falls to the correction says nothing.
        good = lost[block.baseline] > 0
        for split in (s for s in block.splits if s != block.baseline):
            low, high = interval(lost[split][good] / lost[block.baseline][good])
            value = (means[split] - off[split]) / (means[block.baseline] - off[block.baseline])
            records.append(
                {"domain": domain, "split": split, "baseline": block.baseline}
                | {"sets": " ".join(names), "variant": block.variant}
                | {"correction": block.correction, "taken_off": off[split]}
                | {"taken_off_baseline": off[block.baseline]}
                | {"seeds": compared[split].seeds, "relative": value, "low": low, "high": high}
                | _published(block, split, domain)
            )
    return records


def _natural(compared: dict[str, Condition]) -> Means:
    import numpy as np

    return {split: np.array([condition.mean("natural")]) for split, condition in compared.items()}


def _draws(block: DomainRelative, compared: dict[str, Condition], domain: str) -> Means:
    """Split -> (draws,) means on the sets of a domain; two domains share the draws of seeds."""
    from clipshift.evaluation.by_domain import draw_means

    return dict(zip(compared, draw_means(compared, domain, block.draws, block.seed), strict=True))


def _line(block: DomainRelative, compared: dict[str, Condition]) -> Line:
    """Mean accuracy on the rendition sets expected at that on the natural ones, by single runs."""
    from clipshift.evaluation.robustness.lines import fit
    from clipshift.evaluation.robustness.points import Axis, Points

    axes = [Axis(domain, block.variant) for domain in ("natural", "rendition")]
    rows = []
    for split in block.line:
        for seed in range(compared[split].seeds):
            x, y = (_measured(axis, compared[split], seed, axis.name) for axis in axes)
            rows.append((f"{split}-{seed}", [x], y))
    return fit(Points.of(rows), "logit", draws=block.draws, seed=block.seed)


def _measured(axis: Axis, condition: Condition, seed: int, domain: str) -> Accuracy:
    import numpy as np

    from clipshift.evaluation.robustness.points import accuracy

    correct = [condition.correct[name][seed] for name in condition.sets(domain)]
    images = sum(map(len, correct))
    return accuracy(axis, float(np.mean([c.mean() for c in correct])), images)


def taken_off(
    line: Line | None, correction: str, compared: dict[str, Condition], domain: str, natural: Means
) -> Means:
    """What a correction takes off the mean accuracy on the sets of a domain, per split.

    Args:
        natural: mean accuracies on the natural sets, one or one per draw.
    """
    import numpy as np

    if correction == "none":
        return {split: np.zeros_like(natural[split]) for split in compared}
    if line is not None and domain == "rendition":
        return {split: line.predict(natural[split][:, None]) for split in compared}
    return {
        split: np.full_like(
            natural[split], np.mean([condition.chance[n] for n in condition.sets(domain)])
        )
        for split, condition in compared.items()
    }


def _published(block: DomainRelative, split: str, domain: str) -> dict[str, Any]:
    condition = published_domains()["arms"].get(block.published.get(split, ""), {})
    value = condition.get("relative_corrected", {}).get(domain)
    confidence = condition["relative_confidence"] if value is not None else ""
    return {"published": value, "published_confidence": confidence}


def draw(block: DomainRelative, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per domain; one line per split, from its lower to its upper end."""
    domains = list(dict.fromkeys(r["domain"] for r in numbers))
    splits = list(dict.fromkeys(r["split"] for r in numbers))
    with house_style():
        size = (2.6, 0.28 * len(splits) + 0.6)
        figure, axes = panels(len(domains), size=size, sharex=True, sharey=True)
        for place, (axis, domain) in enumerate(zip(axes, domains, strict=True)):
            panel_rows = [r for r in numbers if r["domain"] == domain]
            for y, r in enumerate(panel_rows):
                axis.plot([r["low"], r["high"]], [y, y], color=COLOURS[place], lw=1.6)
                axis.plot([r["relative"]], [y], MARKERS[place], color=COLOURS[place], ms=5)
                if r["published"] is not None:
                    label = f"{MARK_DOMAINS}, {r['published_confidence']}, its own correction"
                    axis.plot(
                        [r["published"]], [y], "D", mfc="white", mec=GREY, ls="none", label=label
                    )
            axis.axvline(1, color="black", lw=0.9, ls="--", label=f"as {block.baseline}")
            axis.axvline(0, color=GREY, lw=0.9, ls=":")
            axis.set_title(f"{domain} sets", fontsize=9)
        axes[0].set_yticks(range(len(splits)), splits)
        axes[0].set_ylim(len(splits) - 0.5, -0.5)
        text = f"accuracy relative to {block.baseline} ({SAID[block.correction]})"
        figure.supxlabel(text, fontsize=9)
        legend_above(figure, axes)
        save(figure, out, block.caption)


@step(version=4)
def figure(block: DomainRelative, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.evaluation.by_domain import read_conditions

    compared = read_conditions(files["predictions"], files["clean"], block.variant)
    numbers = rows(block, compared)
    write_csv(table, numbers)
    draw(block, numbers, out)
