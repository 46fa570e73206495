"""Table: counts of this study beside the published ones, which a download may not reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import kind
from clipshift.study.config.data import Block
from clipshift.study.config.names import CountedName
from clipshift.study.config.numbers import POINTS
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout


class Published(Block):
    """A published count, and what of this study stands for it."""

    of: CountedName = Field(
        description="A pool, a set or a split; or `split-corpus`: what a corpus can use of a split."
    )
    samples: int = Field(ge=1, le=POINTS, description="The published count.")
    source: str = Field(min_length=1, description="Where it was published.")


@kind(
    "coverage",
    section="accuracy",
    caption="Samples of this study beside published counts. Downloads lose images, so a published "
    "count may be out of reach: `coverage` is the share of it that is here.",
    drawn=False,
)
class Coverage(FigureBlock):
    """Counts of this study beside published ones: the share that is here."""

    counts: dict[str, Published] = Field(min_length=1, description="Label -> published count.")

    def files(self, at: Layout) -> Files:
        return {"counts": {label: counted(at, p.of) for label, p in self.counts.items()}}


def counted(at: Layout, name: str) -> str:
    """The file with the counts of a pool, a set, a split, or a corpus's part of a split."""
    if "-" in name:
        return f"results/chosen/{name}.json"
    if name in at.cfg.splits:
        return f"results/splits/{name}.json"
    return f"results/{'pools' if name in at.cfg.pools else 'sets'}/{name}/manifest.json"


def rows(block: Coverage, files: Files) -> list[dict[str, Any]]:
    """One row per published count, in the order of the block."""
    records = []
    for label, published in block.counts.items():
        entry = read_json(Path(files["counts"][label]))
        account = entry.get("account", entry)
        left_out = "; ".join(f"{n} {why}" for why, n in account["rejected"].items())
        records.append(
            {"count": label, "of": published.of, "samples": account["out"]}
            | {"published": published.samples, "coverage": account["out"] / published.samples}
            | {"source": published.source, "left_out": left_out}
        )
    return records


@step(version=1)
def table(block: Coverage, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
