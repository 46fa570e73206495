"""Table: sizes and classes of the clean test sets, what was dropped and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import DOMAINS_NOTE, domains, kind
from clipshift.figures.published import published_domains
from clipshift.study.config.classifier_base import DOMAINS
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

    later = frozenset({"labelled"})

    clean: list[CleanSetName] = Field(min_length=1, description="Clean test sets, in their order.")
    published: dict[CleanSetName, PublishedClean] = Field(
        default={}, description="Clean set -> its published counterpart."
    )
    labelled: bool = Field(
        default=False,
        description="Say how clean the sets are: of the labelled images that a set keeps, the "
        "share that is of its domain, with its 95 % Clopper-Pearson interval.",
    )

    def files(self, at: Layout) -> Files:
        dom = domains(at)
        files = {"clean": {c: dom.clean(c).replace(".parquet", ".json") for c in self.clean}}
        if self.labelled:
            files["labels"] = {c: dom.labels(dom.clean_sets[c].set) for c in self.clean}
            files["kept"] = {c: dom.clean(c) for c in self.clean}
        return files


def rows(block: CleanTable, files: Files) -> list[dict[str, Any]]:
    """One row per clean set, in the order of the block.

    Raises:
        ClipshiftError: the table is to say how clean the sets are, and none has a labelled image.
    """
    records: list[dict[str, Any]] = []
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
            | (_purity(files, name, entry["domain"]) if block.labelled else {})
        )
    if block.labelled and not any(record["labelled"] for record in records):
        raise ClipshiftError(
            "figures.domain_clean: `labelled: true`, but no clean set keeps a labelled image; name "
            "tables of people's labels in `domains.benchmarks`"
        )
    return records


def _purity(files: Files, name: str, domain: str) -> dict[str, Any]:
    """Of the labelled images that a clean set keeps, those of its domain."""
    from clipshift.stats.intervals import clopper_pearson

    labels = read_parquet(Path(files["labels"][name]), ["key", "label"])
    label_of = dict(zip(labels["key"].to_pylist(), labels["label"].to_pylist(), strict=True))
    kept = read_parquet(Path(files["kept"][name]), ["key", "kept"])
    judged = [
        label_of[key] for key in kept.filter(kept["kept"])["key"].to_pylist() if key in label_of
    ]
    right = judged.count(DOMAINS.index(domain))
    low, high = clopper_pearson(right, len(judged)) if judged else (None, None)
    share = right / len(judged) if judged else None
    counts = {"labelled": len(judged), "labelled_of_domain": right}
    return counts | {"purity": share, "purity_low": low, "purity_high": high}


@step(version=3)
def table(block: CleanTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
