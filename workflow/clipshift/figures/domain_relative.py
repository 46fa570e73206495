"""Accuracy relative to that of a baseline, both less a correction, per domain.

relative = (mean accuracy - correction) / (baseline's mean accuracy - correction). The paper gives
no formula for its correction, so the one that was used is printed in figure and table.
"""

from pathlib import Path
from typing import Any

import numpy as np

from clipshift.config_domain_figures import DomainRelative
from clipshift.config_domains import DETECTED
from clipshift.domains.compare import Arm, draw_means, interval, read_arms
from clipshift.errors import ClipshiftError, run
from clipshift.figures.command import arguments
from clipshift.figures.style import COLOURS, GREY, MARKERS, house_style, legend_above, panels, save
from clipshift.files import write_csv
from clipshift.published import MARK_DOMAINS, published_domains

SAID = {"none": "no correction", "chance": "less chance level"}


def rows(block: DomainRelative, arms: dict[str, Arm]) -> list[dict[str, Any]]:
    """Per domain one row per split other than the baseline.

    Raises:
        ClipshiftError: the baseline is at or below the correction: there is no relation to it.
    """
    found = []
    base = arms[block.baseline]
    for domain in (d for d in DETECTED if base.sets(d)):
        names = base.sets(domain)
        off = taken_off(block.correction, base, domain)
        drawn = dict(zip(arms, draw_means(arms, domain, block.draws, block.seed), strict=True))
        if base.mean(domain) <= off:
            raise ClipshiftError(
                f"the baseline {block.baseline} is at {base.mean(domain):.3f} on the {domain} sets,"
                f" not above the correction {off:.3f}; take `correction: none`"
            )
        for split in (s for s in arms if s != block.baseline):
            # A draw in which the baseline falls to the correction says nothing.
            good = drawn[block.baseline] > off
            ratio = (drawn[split][good] - off) / (drawn[block.baseline][good] - off)
            low, high = interval(ratio)
            value = (arms[split].mean(domain) - off) / (base.mean(domain) - off)
            found.append(
                {"domain": domain, "split": split, "baseline": block.baseline}
                | {"sets": " ".join(names), "variant": block.variant}
                | {"correction": block.correction, "taken_off": off, "seeds": arms[split].seeds}
                | {"relative": value, "low": low, "high": high}
                | _published(block, split, domain)
            )
    return found


def taken_off(correction: str, arm: Arm, domain: str) -> float:
    """What a correction takes off the mean accuracy on the sets of a domain."""
    if correction == "none":
        return 0.0
    return float(np.mean([arm.chance[name] for name in arm.sets(domain)]))


def _published(block: DomainRelative, split: str, domain: str) -> dict[str, Any]:
    arm = published_domains()["arms"].get(block.published.get(split, ""), {})
    value = arm.get("relative_corrected", {}).get(domain)
    confidence = arm["relative_confidence"] if value is not None else ""
    return {"published": value, "published_confidence": confidence}


def draw(block: DomainRelative, numbers: list[dict[str, Any]], out: list[Path]) -> None:
    """One panel per domain; one line per split, from its lower to its upper end."""
    domains = list(dict.fromkeys(r["domain"] for r in numbers))
    splits = list(dict.fromkeys(r["split"] for r in numbers))
    with house_style():
        size = (2.6, 0.28 * len(splits) + 0.6)
        figure, axes = panels(len(domains), size=size, sharex=True, sharey=True)
        for place, (axis, domain) in enumerate(zip(axes, domains, strict=True)):
            mine = [r for r in numbers if r["domain"] == domain]
            for y, r in enumerate(mine):
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
        save(figure, out)


def main() -> None:
    block, files, args = arguments(DomainRelative, __doc__)
    arms = read_arms(files["evaluations"], files["predictions"], block.clean, block.variant)
    numbers = rows(block, arms)
    write_csv(args.csv, numbers)
    draw(block, numbers, args.out)


if __name__ == "__main__":
    run(main)
