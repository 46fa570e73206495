"""The table of splits: pool points removed, and accuracy on each test set, published ones beside.

One row per split and test set. Published numbers have columns of their own and enter no number of
ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.core.files import read_json, write_csv
from clipshift.core.step import step
from clipshift.figures.kind import PUBLISHED_NOTE, OfSplits, evaluations, kind
from clipshift.figures.published import published
from clipshift.study.config.names import TestSetName, TrainedSplit
from clipshift.study.layout.figures import Files, Study

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

PublishedSet = Literal["val", "sketch", "r", "v2", "a", "objectnet"]
PublishedRow = Literal[
    "full", "val", "sketch", "r", "v2", "a", "objectnet", "combined", "no_reference"
]


@kind(
    "pruned",
    section="accuracy",
    caption="Pool points removed, and zero-shot top-1 accuracy, %, mean over the seeds, with its "
    "95 % Clopper-Pearson interval over the test images. " + PUBLISHED_NOTE,
    drawn=False,
)
class PrunedTable(OfSplits):
    """Table of splits: points removed, and accuracy on each test set."""

    published: dict[TrainedSplit, PublishedRow] = Field(
        default={}, description="Split -> published row to print beside it."
    )
    published_sets: dict[TestSetName, PublishedSet] = Field(
        default={}, description="Test set -> its published counterpart."
    )

    def files(self, at: Layout) -> Files:
        return {
            "evaluations": evaluations(at, self.splits, self.sets),
            "counts": {split: f"results/splits/{split}.json" for split in self.splits},
        }


def rows(block: PrunedTable, files: Files) -> list[dict[str, Any]]:
    """One row per split and test set, splits in the order of the block."""
    from clipshift.evaluation.summary import read_conditions

    records = []
    results = read_conditions(files["evaluations"])
    for split in block.splits:
        result = results[split]
        step_counts = read_json(Path(files["counts"][split]))
        removed = step_counts["candidates"] - step_counts["points_kept"]
        for name in block.sets:
            entry = result["sets"][name]
            records.append(
                {"split": split, "reference_added": step_counts["out"] - step_counts["points_kept"]}
                | {"pool_points": step_counts["candidates"], "points_removed": removed}
                | {"share_removed": removed / step_counts["candidates"]}
                | {"test_set": name, "seeds": len(result["runs"])}
                | {key: entry[key] for key in ("n", "top1", "top1_low", "top1_high")}
                | published_cells(block, split, name)
            )
    return records


def published_cells(block: PrunedTable, split: str, test_set: str) -> dict[str, Any]:
    """The published columns of a row, empty where there is nothing."""
    cells: dict[str, Any] = dict.fromkeys(
        f"published_{part}"
        for part in ("split", "removed", "share", "confidence", "set", "n", "top1")
    )
    if split not in block.published:
        return cells
    everything = published()
    row = everything["rows"][block.published[split]]
    cells |= {
        "published_split": row["trained_on"],
        "published_removed": row["removed"],
        "published_share": row["removed"] / everything["pool"]["points"],
        "published_confidence": row["confidence"],
    }
    other = block.published_sets.get(test_set)
    if other in row["top1"]:
        cells["published_set"] = other
        cells["published_n"] = everything["sizes"][other]
        cells["published_top1"] = row["top1"][other]
    return cells


@step(version=3)
def table(block: PrunedTable, files: Files, study: Study, out: Path) -> None:
    write_csv(out, rows(block, files))
