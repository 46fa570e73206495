"""Precision-recall curves of the domain classifiers on a labelled set, with operating points.

The threshold was chosen on the validation part; the mark says what it reaches on this set.
"""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from clipshift.config.domain_figures import DomainCurves
from clipshift.config.domains import DETECTED
from clipshift.errors import ClipshiftError, run
from clipshift.figures.command import arguments
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
from clipshift.files import read_json, read_parquet, write_csv
from clipshift.layout.figures import Files


def rows(block: DomainCurves, files: Files, study: dict[str, Any]) -> list[dict[str, Any]]:
    """Every point of every curve, and the operating point of each (`mark`).

    Raises:
        ClipshiftError: there is no such labelled set.
    """
    found: list[dict[str, Any]] = []
    for name in block.classifiers:
        table = read_parquet(Path(files["curves"][name]))
        mine = table.filter(pc.equal(table["set"], block.set))
        points = read_json(Path(files["points"][name]))["domains"]
        for domain, entry in points.items():
            if block.set not in entry["sets"]:
                raise ClipshiftError(f"figures.domain_curves: no labelled set {block.set!r}")
            of = mine.filter(pc.equal(mine["domain"], domain))
            columns = ("threshold", "precision", "recall")
            shared = {"classifier": name, "domain": domain, "set": block.set}
            found += [shared | {"mark": 0} | {c: r[c] for c in columns} for r in of.to_pylist()]
            at = entry["sets"][block.set]
            if entry["attained"] and at["precision"] is not None and at["recall"] is not None:
                mark = {"threshold": entry["threshold"]} | {c: at[c] for c in columns[1:]}
                found.append(shared | {"mark": 1} | mark)
    return found


def draw(
    block: DomainCurves, numbers: list[dict[str, Any]], target: float, out: list[Path]
) -> None:
    """One panel per detected domain, a line per classifier."""
    with house_style():
        figure, axes = panels(len(DETECTED), size=(3.0, 2.9), sharex=True, sharey=True)
        for axis, domain in zip(axes, DETECTED, strict=True):
            for i, name in enumerate(block.classifiers):
                mine = [r for r in numbers if (r["classifier"], r["domain"]) == (name, domain)]
                curve = [r for r in mine if not r["mark"]]
                colour, line = COLOURS[i % len(COLOURS)], LINES[i % len(LINES)]
                x, y = ([100 * r[c] for r in curve] for c in ("recall", "precision"))
                axis.plot(x, y, color=colour, ls=line, lw=1.2, label=name)
                for r in (r for r in mine if r["mark"]):
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
        save(figure, out)


def main() -> None:
    block, files, args = arguments(DomainCurves, __doc__)
    numbers = rows(block, files, args.study)
    write_csv(args.csv, numbers)
    target = read_json(Path(next(iter(files["points"].values()))))["precision"]
    draw(block, numbers, target, args.out)


if __name__ == "__main__":
    run(main)
