"""Table: sizes and classes of the clean test sets, what was dropped and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import DOMAINS_NOTE, domains, kind
from clipshift.figures.published import published_domains
from clipshift.study.config.names import CleanSetName
from clipshift.study.layout.figures import FigureBlock, Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

# What was measured on LAION-200M and the benchmarks, by the paper's names.
PublishedClean = Literal[
    "val", "v2", "a", "objectnet", "dn-real", "dn-infograph natural", "r", "sketch", "dn-sketch",
    "dn-painting", "dn-clipart", "dn-quickdraw", "dn-infograph rendition",
]  # fmt: skip


@kind(
    "domain_clean",
    section="domains",
    caption="Clean test sets: sizes, classes left, what was dropped and why." + DOMAINS_NOTE,
    drawn=False,
)
class CleanTable(FigureBlock):
    """Sizes and classes of the clean test sets (the paper's table 12)."""

    clean: list[CleanSetName] = Field(min_length=1, description="Clean test sets, in their order.")
    published: dict[CleanSetName, PublishedClean] = Field(
        default={}, description="Clean set -> its published counterpart."
    )

    def files(self, at: Layout) -> Files:
        dom = domains(at)
        return {"clean": {c: dom.clean(c).replace(".parquet", ".json") for c in self.clean}}


def rows(block: CleanTable, files: Files) -> list[dict[str, Any]]:
    """One row per clean set, in the order of the block."""
    records = []
    for name in block.clean:
        entry = read_json(Path(files["clean"][name]))
        step_counts = entry["account"]
        dropped = "; ".join(f"{n} {why}" for why, n in step_counts["rejected"].items())
        reported = published_domains()["clean"].get(block.published.get(name, ""), {})
        records.append(
            {"clean_set": name, "set": entry["set"], "domain": entry["domain"]}
            | {"pictures_before": step_counts["in"], "pictures": step_counts["out"]}
            | {"classes_before": entry["classes_before"], "classes": len(entry["classes"])}
            | {"dropped": dropped, "classes_gone": ", ".join(entry["classes_gone"])}
            | {"published_set": block.published.get(name)}
            | {"published_pictures_before": reported.get("pictures_before")}
            | {"published_classes": reported.get("classes")}
        )
    return records


@step(version=3)
def table(block: CleanTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
