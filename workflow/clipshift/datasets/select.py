"""Which items of the sources go into a pool or a set: classes, hold-out of concepts, limits.

Cheap rules over the sources' tables; images are read only to copy those that were chosen.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets.shards import SAMPLE_SCHEMA
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.data import Holdout, Take

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """Chosen rows in the order of their keys, and every other row's key with the reason."""

    rows: list[Row]
    rejected: dict[str, str]


def seeded_order(seed: int, text: str) -> int:
    """A number that orders texts at random, the same everywhere: the first 64 bits of a hash."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big")


def class_of(category: str, classes: Mapping[str, Sequence[str]]) -> str | None:
    """The class whose category path is the longest that contains `category`, or None.

    >>> class_of("emoji/animals/bird/1f986", {"bird": ["emoji/animals/bird"]})
    'bird'
    """
    best: tuple[int, str] | None = None
    for name, paths in classes.items():
        for path in paths:
            if category == path or category.startswith(path + "/"):
                best = max(best or (0, ""), (len(path), name))
    return best[1] if best else None


def is_held_out(row: Row, holdout: Holdout) -> bool:
    """Whether the concept of a classed row is kept for testing."""
    if row["class_name"] is None:
        return False
    order = seeded_order(holdout.seed, f"{row['family']}/{row['concept']}")
    return order < holdout.fraction * 2**64


def select(
    tables: Mapping[str, Iterable[Row]],
    takes: Sequence[Take],
    classes: Mapping[str, Sequence[str]],
    holdout: Holdout,
    seed: int = 0,
) -> Selection:
    """Apply `takes` to the sources' rows.

    What is taken without the held-out concepts must not bring them in by another name: an item
    whose bytes equal those of a held-out item of such a source is held out, too.

    Args:
        tables: rows of each source, as in its `samples.parquet`.
        seed: of the choice where a `limit` applies.

    Raises:
        ClipshiftError: one item is taken twice.
    """

    def judged(source: str) -> Iterator[Row]:
        for original in tables[source]:
            row = {**original, "class_name": class_of(original["category"], classes)}
            yield row | {"held_out": is_held_out(row, holdout)}

    spared = dict.fromkeys(take.source for take in takes if take.concepts == "not-held-out")
    tested = {row["sha256"] for source in spared for row in judged(source) if row["held_out"]}
    chosen: dict[str, Row] = {}
    rejected: dict[str, str] = {}
    for take in takes:
        kept: list[Row] = []
        for row in judged(take.source):
            reason = _reason(row, take)
            if reason is None and row["sha256"] in tested:
                reason = "same bytes as an item held out for testing"
            if reason:
                rejected[row["key"]] = reason
            else:
                kept.append(row)
        if take.limit is not None and len(kept) > take.limit:
            kept.sort(key=lambda row: (seeded_order(seed, row["key"]), row["key"]))
            rejected |= {row["key"]: "over the limit" for row in kept[take.limit :]}
            kept = kept[: take.limit]
        if twice := chosen.keys() & {row["key"] for row in kept}:
            raise ClipshiftError(f"the source {take.source!r} is taken twice: key {min(twice)!r}")
        chosen |= {row["key"]: row for row in kept}
    # A source may be taken twice with disjoint rules; what one of them took is not rejected.
    rejected = {key: why for key, why in rejected.items() if key not in chosen}
    return Selection([chosen[key] for key in sorted(chosen)], rejected)


def _reason(row: Row, take: Take) -> str | None:
    if take.concepts == "held-out" and not row["held_out"]:
        return "concept is not held out"
    if take.concepts == "not-held-out" and row["held_out"]:
        return "concept is held out for testing"
    if take.classed is True and row["class_name"] is None:
        return "no class of the study"
    if take.classed is False and row["class_name"] is not None:
        return "has a class of the study"
    return None


def read_sources(folders: Mapping[str, Path]) -> dict[str, list[Row]]:
    """Tables of the sources, by name."""
    return {
        name: read_parquet(folder / "samples.parquet", SAMPLE_SCHEMA.names).to_pylist()
        for name, folder in folders.items()
    }


def copy_samples(rows: Sequence[Row], folders: Mapping[str, Path]) -> Iterator[Sample]:
    """Samples of `rows` out of the sources' tars, in the order of `rows` (grouped by source).

    Raises:
        ClipshiftError: a row has no sample in its source's tar.
    """
    wanted = {row["key"] for row in rows}
    for name in dict.fromkeys(row["source"] for row in rows):
        found = {}
        for sample in read_tar(folders[name] / "samples.tar"):
            if sample.key in wanted:
                found[sample.key] = sample
        for row in rows:
            if row["source"] == name:
                if row["key"] not in found:
                    raise ClipshiftError(
                        f"{folders[name]}/samples.tar lacks the sample {row['key']!r} of its "
                        "table; delete the folder and run again"
                    )
                yield found[row["key"]]
