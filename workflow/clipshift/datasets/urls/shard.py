"""One shard of a downloaded pool, in the contract of every pool.

Images are img2dataset's bytes, captions those of the list, in the order of keys: the same answers
give the same bytes, whatever came first and however often it was killed.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, sha256_bytes, write_json
from clipshift.core.step import step
from clipshift.datasets.shards import shard_entry, write_table, write_tar
from clipshift.datasets.tars import Member, Sample, members
from clipshift.datasets.urls.listing import read_shard
from clipshift.datasets.urls.paths import tar_of
from clipshift.datasets.urls.placeholders import REASON

LOG = logging.getLogger(__name__)


@step(version=1)
def write_shard(
    pool: str, urls: Path, shard: int, fetched: Path, placeholders: Path, work: Path, tar: Path
) -> None:
    """Write a shard, its table and its counts.

    Raises:
        ClipshiftError: an image that was fetched is no longer in the work folder.
    """
    step_counts = StepCounts("pool", tar.stem)
    captions = {row["key"]: row["caption"] for row in read_shard(urls, shard).to_pylist()}
    repeated = set(read_parquet(placeholders, ["sha256"])["sha256"].to_pylist())
    rows = []
    for row in read_parquet(fetched).to_pylist():
        step_counts.came_in += 1
        if row["reason"] is not None:
            step_counts.rejected[row["reason"]] += 1
        elif row["sha256"] in repeated:
            step_counts.rejected[REASON] += 1
        else:
            rows.append(row | {"caption": captions[row["key"]]})
    table: list[dict[str, Any]] = []
    step_counts.went_out = write_tar(tar, _samples(pool, rows, work, table))
    write_table(tar.with_suffix(".parquet"), table)
    entry = {"account": step_counts.as_json(), "shard": shard_entry(tar, step_counts.went_out)}
    write_json(tar.with_suffix(".json"), entry)
    LOG.info(json.dumps(entry["account"], indent=2))


def _samples(
    name: str, rows: list[dict[str, Any]], work: Path, table: list[dict[str, Any]]
) -> Iterator[Sample]:
    """Samples in the order of the rows, one in memory at a time; `table` gets their rows."""
    places: dict[Path, dict[str, tuple[int, int]]] = {}
    for row in rows:
        tar = tar_of(work, row["attempt"], row["number"])
        if tar not in places:
            places[tar] = _places(tar)
        if row["number"] not in places[tar]:
            raise ClipshiftError(f"{tar} lacks the image of {row['url']}; {_remedy(work)}")
        offset, size = places[tar][row["number"]]
        with tar.open("rb") as stream:
            stream.seek(offset)
            image = stream.read(size)
        table.append(
            {
                "key": row["key"],
                "url_hash": row["key"],
                "sha256": sha256_bytes(image),
                "caption": row["caption"],
                "source": name,
                "held_out": False,
                "locator": row["url"],
            }
        )
        yield Sample(row["key"], {"jpg": image, "txt": row["caption"].encode()})


def _places(tar: Path) -> dict[str, tuple[int, int]]:
    """Number of a sample -> where the bytes of its image lie in a tar, and how many they are."""
    try:
        images = (m for m in members(tar) if isinstance(m, Member) and m.suffix == "jpg")
        return {m.key: (m.offset, m.size) for m in images}
    except ClipshiftError as error:
        raise ClipshiftError(
            f"{tar} is not readable ({error}); {_remedy(tar.parents[1])}"
        ) from error


def _remedy(work: Path) -> str:
    return f"delete {work} and fetch again (--forcerun fetch_urls)"
