"""Write one shard of a pool, and the manifest over all its shards.

A sample's shard follows from its key alone, so a new item changes one shard and no other.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipshift.core.counts import StepCounts
from clipshift.core.files import read_json, write_json
from clipshift.core.job_logs import note
from clipshift.core.step import step
from clipshift.datasets.keys import refuse_repeats
from clipshift.datasets.select import (
    Selection,
    copy_samples,
    read_sources,
    seeded_order,
    select,
)
from clipshift.datasets.shards import shard_entry, write_table, write_tar
from clipshift.study.config.data import Holdout, Pool

LOG = logging.getLogger(__name__)


def shard_of(key: str, shards: int) -> int:
    """The shard of a key: uniform, and independent of every other key."""
    return seeded_order(0, key) % shards


def write_shard(
    shard: int, shards: int, selection: Selection, folders: Mapping[str, Path], tar: Path
) -> StepCounts:
    """Write one shard of the selection of a whole pool, its table and its counts."""
    step_counts = StepCounts("pool", tar.stem)
    rows = [r for r in selection.rows if shard_of(r["key"], shards) == shard]
    reasons = [why for key, why in selection.rejected.items() if shard_of(key, shards) == shard]
    step_counts.rejected = Counter(reasons)
    step_counts.came_in = len(rows) + len(reasons)
    step_counts.went_out = write_tar(tar, copy_samples(rows, folders))
    write_table(tar.with_suffix(".parquet"), rows)
    entry = {"account": step_counts.as_json(), "shard": shard_entry(tar, step_counts.went_out)}
    write_json(tar.with_suffix(".json"), entry)
    return step_counts


@step(version=2)
def shard(
    pool: Pool, shard: int, classes: dict[str, list[str]], holdout: Holdout,
    sources: dict[str, Path], tar: Path,
) -> None:  # fmt: skip
    """Select the items of a pool, and write one shard of them.

    Args:
        classes: category paths of each class.
        sources: folder of each source.
    """
    selection = select(read_sources(sources), pool.take, classes, holdout)
    step_counts = write_shard(shard, pool.shards, selection, sources, tar)
    LOG.info(json.dumps(step_counts.as_json(), indent=2))


@step(version=1)
def sum_shards(pool: str, counts: list[Path], out: Path, samples: int | None = None) -> None:
    """Sum the shards' counts.

    Args:
        samples: as configured. Another number is noted, for data that are half there or doubled.

    Raises:
        ClipshiftError: a key occurs twice in the pool.
    """
    entries = [read_json(path) for path in counts]
    step_counts = StepCounts("pool", pool)
    for entry in entries:
        step_counts.add(StepCounts.from_json(entry["account"]))
    refuse_repeats([path.with_suffix(".parquet") for path in counts])
    shards = [entry["shard"] for entry in entries]
    manifest: dict[str, Any] = {"account": step_counts.as_json(), "shards": shards}
    if samples is not None and samples != step_counts.went_out:
        manifest["samples_configured"] = samples
        note(
            f"pools.{pool}.samples: {samples:,} configured, {step_counts.went_out:,} found, "
            f"{sum(step_counts.rejected.values()):,} left out"
        )
    write_json(out, manifest)
