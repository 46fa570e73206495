"""Record of a de-duplication: counts, recall and precision of the sample, a sweep of thresholds.

`python -m clipshift.similarity.dedup.record ...` writes `record.json` and, beside it, `sweep.csv`. The truth
is the exact search over the whole pool: has the point an earlier neighbour, anywhere, more similar
than the threshold? Recall and precision carry Clopper-Pearson intervals.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.counts import Ledger
from clipshift.core.errors import run
from clipshift.core.files import read_parquet, write_csv, write_json
from clipshift.similarity.dedup.rules import decide
from clipshift.stats.intervals import clopper_pearson
from clipshift.study.config.splits import Dedup, Rule


@dataclass
class _Tally:
    """Dropped points of all groups, and who of the sample is dropped."""

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
    account = Ledger("dedup", name, points, points - chosen["dropped"])
    account.rejected["duplicate"] = chosen["dropped"]
    return account.as_json() | {
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the pool")
    parser.add_argument("--dedup", required=True, help="JSON of the dedup block")
    parser.add_argument("--scores", type=Path, nargs="+", required=True)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--check", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="record.json")
    args = parser.parse_args()
    block = Dedup.model_validate_json(args.dedup)
    found, rows = record(args.name, block, args.scores, args.pairs, read_parquet(args.check))
    write_csv(args.out.with_name("sweep.csv"), rows)
    write_json(args.out, found)


if __name__ == "__main__":
    run(main)
