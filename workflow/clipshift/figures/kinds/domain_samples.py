"""Images of each decision of the detectors: a row at random, a row by confidence.

By confidence: equal steps through the order of the score, from the most to the least confident.
`neither` is ordered by the larger of its distances to the two thresholds.
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import read_json, read_parquet, write_csv
from clipshift.core.step import step
from clipshift.figures.contact_sheet import Sheet
from clipshift.figures.kind import domains, kind
from clipshift.figures.style import house_style
from clipshift.study.config.classifier_base import DETECTED
from clipshift.study.config.domains import DECISIONS
from clipshift.study.config.names import DatasetName
from clipshift.study.config.numbers import Seed
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.figures.images import Thumbnail
    from clipshift.study.layout.study import Layout

SIDE, GAP, LEFT, TOP = 0.62, 0.04, 1.15, 0.1


@kind(
    "domain_samples",
    section="domains",
    caption="Images of each decision of the two classifiers, at random and in equal steps from the "
    "most to the least confident.",
)
class DomainSamples(FigureBlock):
    """Images of each decision: some at random, some from the most to the least confident."""

    datasets: list[DatasetName] = Field(min_length=1, description="Pools and sets to choose from.")
    shown: int = Field(default=10, ge=2, le=1000, description="Images per row.")
    seed: Seed = Field(default=0, description="Seed of the random rows.")

    def files(self, at: Layout) -> Files:
        dom = domains(at)
        return {
            "points": {d: dom.point(c) for d, c in dom.detectors.items()},
            "datasets": {
                d: {
                    "verdicts": dom.decisions(d),
                    "tables": dom.tables(d),
                    "tars": dom.dataset_tars(d),
                }
                for d in self.datasets
            },
        }


def choose(block: DomainSamples, files: Files) -> list[dict[str, Any]]:
    """One row per image: decision, how it was chosen, place in its row, and its scores."""
    import numpy as np

    from clipshift.datasets.select import seeded_order

    limits = {d: read_json(Path(f))["domains"][d]["threshold"] for d, f in files["points"].items()}
    pool: dict[str, list[dict[str, Any]]] = {v: [] for v in DECISIONS}
    for name, dataset in files["datasets"].items():
        for file in dataset["verdicts"]:
            for row in read_parquet(Path(file)).to_pylist():
                pool[row["verdict"]].append(row | {"dataset": name})
    records = []
    for decision, rows in pool.items():
        by_hash = sorted(rows, key=lambda r: (seeded_order(block.seed, r["key"]), r["key"]))
        ranked = sorted(rows, key=lambda r: (-_confidence(r, decision, limits), r["key"]))
        # Evenly over the ranking, from the surest to the least sure.
        steps = np.unique(np.linspace(0, len(rows) - 1, min(block.shown, len(rows))).astype(int))
        spread = [ranked[i] for i in steps] if rows else []
        for how, chosen in (("random", by_hash[: block.shown]), ("by confidence", spread)):
            records += [
                {"verdict": decision, "of": len(rows), "chosen": how, "place": i, "key": r["key"]}
                | {"dataset": r["dataset"], "natural": r["natural"], "rendition": r["rendition"]}
                for i, r in enumerate(chosen)
            ]
    return records


def _confidence(row: dict[str, Any], decision: str, limits: dict[str, float | None]) -> float:
    """How far an image is on the decision's side of the thresholds."""
    above = [row[d] - (limits[d] if limits[d] is not None else inf) for d in DETECTED]
    if decision in DETECTED:
        return float(row[decision])
    return float(min(above)) if decision == "both" else float(-max(above))


def draw(
    block: DomainSamples, rows: list[dict[str, Any]], images: dict[str, Thumbnail], out: list[Path]
) -> None:
    """Two rows of images per decision."""
    groups = list(dict.fromkeys((r["verdict"], r["chosen"]) for r in rows))
    height = TOP + len(groups) * (SIDE + GAP) + GAP
    with house_style(arranged=False):
        sheet = Sheet(LEFT + block.shown * (SIDE + GAP) + GAP, height)
        for line, (decision, how) in enumerate(groups):
            y = TOP + line * (SIDE + GAP)
            line_rows = [r for r in rows if (r["verdict"], r["chosen"]) == (decision, how)]
            title = f"{decision}\n{how}" + (
                f"\n(of {line_rows[0]['of']:,})" if how == "random" else ""
            )
            sheet.text(LEFT - 0.08, y + SIDE / 2, title, ha="right", va="center")
            for r in line_rows:
                sheet.image(LEFT + r["place"] * (SIDE + GAP), y, SIDE, images[r["key"]].pixels)
        sheet.save(out, block.caption)


@step(version=4)
def figure(block: DomainSamples, files: Files, study: Study, table: Path, out: list[Path]) -> None:
    from clipshift.figures.images import fetch

    rows = choose(block, files)
    wanted = {r["key"] for r in rows}
    images = fetch(list(files["datasets"].values()), wanted)
    write_csv(table, rows)
    draw(block, rows, images, out)
