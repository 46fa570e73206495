"""Record of a de-duplication: counts, recall and precision of the sample, a sweep of thresholds.

The truth is the exact search over the whole pool: has the point an earlier neighbour, anywhere,
more similar than the threshold? Recall and precision carry Clopper-Pearson intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.counts import StepCounts
from clipshift.core.files import read_parquet, write_csv, write_json
from clipshift.core.step import step
from clipshift.similarity.dedup.rules import decide
from clipshift.stats.intervals import clopper_pearson
from clipshift.study.config.splits import Dedup, Rule


@dataclass
class _Tally:
    """Dropped points of all groups, and which of the sample are dropped."""

    dropped: int = 0
    sample: set[str] = field(default_factory=set)

    def add(self, table: pa.Table, sample: pa.Array) -> None:
        dropped = table.filter(table["dropped"])["key"]
        self.dropped += len(dropped)
        self.sample |= set(dropped.filter(pc.is_in(dropped, value_set=sample)).to_pylist())


def record(
    name: str, block: Dedup, scores: Sequence[Path], pairs: Sequence[Path], check: pa.Table
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record, and the rows of the sweep: one per rule and threshold."""
    rules: list[Rule] = ["earlier-neighbour"]
    if block.pairs_above is not None:
        rules += ["greedy", "connected-components"]
    thresholds = sorted({*block.sweep, block.threshold})
    sweep = {
        (rule, threshold): _Tally()
        for rule in rules
        for threshold in thresholds
        if rule == "earlier-neighbour" or threshold >= (block.pairs_above or 0)
    }
    points, sizes = 0, [np.empty(0, dtype=np.int64)]
    sample = check["key"].combine_chunks()
    for score_file, pair_file in zip(scores, pairs, strict=True):
        table, close = read_parquet(score_file), read_parquet(pair_file)
        points += len(table)
        sizes.append(np.unique(table["cluster"].to_numpy(), return_counts=True)[1])
        for (rule, threshold), tally in sweep.items():
            tally.add(decide(table, close, rule, threshold), sample)
    rows = [_row(rule, t, points, tally, check) for (rule, t), tally in sweep.items()]
    chosen = next(r for r in rows if (r["rule"], r["threshold"]) == (block.rule, block.threshold))
    step_counts = StepCounts("dedup", name, points, points - chosen["dropped"])
    step_counts.rejected["duplicate"] = chosen["dropped"]
    return step_counts.as_json() | {
        "rule": block.rule,
        "threshold": block.threshold,
        "clusters": _sizes(np.concatenate(sizes), block.clusters),
        "sample": chosen["sample"],
        "recall": _part(chosen, "recall", "exact"),
        "precision": _part(chosen, "precision", "found"),
    }, rows


def _part(row: dict[str, Any], name: str, n: str) -> dict[str, Any]:
    return {
        "value": row[name],
        "low": row[f"{name}_low"],
        "high": row[f"{name}_high"],
        "n": row[n],
    }


def _row(
    rule: str, threshold: float, points: int, tally: _Tally, check: pa.Table
) -> dict[str, Any]:
    close = check.filter(pc.fill_null(pc.greater(check["similarity"], threshold), False))
    exact = set(close["key"].to_pylist())
    both = len(exact & tally.sample)
    row: dict[str, Any] = {
        "rule": rule,
        "threshold": threshold,
        "points": points,
        "dropped": tally.dropped,
        "share": tally.dropped / points if points else 0.0,
        "sample": len(check),
        "exact": len(exact),
        "found": len(tally.sample),
        "both": both,
    }
    for name, n in (("recall", len(exact)), ("precision", len(tally.sample))):
        low, high = clopper_pearson(both, n) if n else (None, None)
        row |= {name: both / n if n else None, f"{name}_low": low, f"{name}_high": high}
    return row


def _sizes(sizes: np.ndarray, clusters: int) -> dict[str, Any]:
    """Of the clusters that have points; the others are `empty`."""
    return {
        "number": clusters,
        "empty": clusters - len(sizes),
        "smallest": int(sizes.min()) if len(sizes) else 0,
        "median": float(np.median(sizes)) if len(sizes) else 0.0,
        "largest": int(sizes.max(initial=0)),
    }


@step(version=1)
def write_record(
    name: str, dedup: Dedup, scores: list[Path], pairs: list[Path], check: Path, out: Path,
    sweep: Path,
) -> None:  # fmt: skip
    """`record` of the pool `name`: the record to `out`, and the rows of the sweep."""
    summary, rows = record(name, dedup, scores, pairs, read_parquet(check))
    write_csv(sweep, rows)
    write_json(out, summary)
