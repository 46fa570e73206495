"""The training's own copy of the kept samples: shuffled, and readable by its program."""

import io
import shutil
from collections.abc import Collection, Mapping, Set
from pathlib import Path
from typing import Any

from PIL import Image
from pyarrow.parquet import read_schema

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode
from clipshift.datasets.select import seeded_order
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.training.launch import COPY_SHARDS
from clipshift.training.tar_filter import trainable, undecodable

# Images held in memory while copying, bytes.
COPY_BYTES = 1 << 30


def copy_split(
    split: Path, tars: list[Path], cache_px: int | None, seed: int, out: Path,
    parts: int = COPY_SHARDS, without: Collection[str] = (), background: Colour = WHITE,
) -> int:  # fmt: skip
    """Copy the kept samples of a split into shuffled training shards and return their number.

    `done.json` is written last; a copy that has it is used again. It lists the undecodable ones,
    which are left out. Where the split's table has captions of its own (`caption`), they replace
    those of the tars.

    Raises:
        ClipshiftError: a kept sample is in none of the tars, or in two.
    """
    done = out / "done.json"
    if done.exists():
        return int(read_json(done)["samples"])
    shutil.rmtree(out, ignore_errors=True)
    captions = captions_of(split, without)
    order = sorted(captions, key=lambda key: (seeded_order(seed, key), key))
    # As many shards in one pass over the tars as memory allows.
    size = max(1, sum(tar.stat().st_size for tar in tars) // parts)
    group = max(1, min(parts, COPY_BYTES // size))
    left_out: dict[str, str] = {}
    for first in range(0, parts, group):
        shards = range(first, min(first + group, parts))
        wanted = {key for shard in shards for key in order[shard::parts]}
        found, reasons = _find(wanted, tars, cache_px, captions, background)
        left_out |= reasons
        if missing := wanted - found.keys() - reasons.keys():
            raise ClipshiftError(
                f"{split} keeps {len(missing)} samples that are in none of its {len(tars)} tars, "
                f"e.g. {min(missing)!r}; delete the split and run again"
            )
        for shard in shards:
            mine = (found[key] for key in order[shard::parts] if key in found)
            write_tar(out / f"{shard:05d}.tar", mine)
    write_json(done, {"samples": len(order) - len(left_out), "undecodable": left_out})
    return len(order) - len(left_out)


def captions_of(split: Path, without: Collection[str] = ()) -> dict[str, str | None]:
    """The keys that a split keeps, each with its caption where the table has such a column."""
    named = ["caption"] * ("caption" in read_schema(split).names)
    table = read_parquet(split, ["key", "kept", *named])
    table = table.filter(table["kept"])
    texts = table["caption"].to_pylist() if named else [None] * len(table)
    pairs = zip(table["key"].to_pylist(), texts, strict=True)
    return {key: text for key, text in pairs if key not in without}


def _find(
    keys: Set[str], tars: list[Path], cache_px: int | None, captions: Mapping[str, str | None],
    background: Colour,
) -> tuple[dict[str, Sample], dict[str, str]]:  # fmt: skip
    """The samples of some keys, and the reasons why others cannot be decoded."""
    found: dict[str, Sample] = {}
    reasons: dict[str, str] = {}
    for tar in tars:
        for sample in read_tar(tar):
            key = sample.key
            if key in keys:
                if key in found or key in reasons:
                    raise ClipshiftError(f"{tar}: the key {key!r} is in another tar, too")
                try:
                    found[key] = _training_sample(sample, cache_px, captions[key], background)
                except Undecodable as reason:
                    reasons[key] = str(reason)
    return found, reasons


def _training_sample(
    sample: Sample, cache_px: int | None, caption: str | None, background: Colour
) -> Sample:
    if caption is not None:
        sample = Sample(sample.key, sample.parts | {"txt": caption.encode()})
    if cache_px is None:
        return trainable(sample, background)
    image = decode(sample.image, background)
    small = io.BytesIO()
    image.resize((cache_px, cache_px), Image.Resampling.BICUBIC).save(small, "PNG")
    return Sample(sample.key, {"png": small.getvalue(), "txt": sample.parts.get("txt", b"")})


def unseen(work: Path) -> dict[str, Any]:
    """For the record: the samples that a training left out since they cannot be decoded."""
    copied = work / "data/done.json"
    found = read_json(copied).get("undecodable", {}) if copied.exists() else {}
    found |= undecodable(work / "keep/undecodable")
    return {"undecodable": dict(sorted(found.items()))} if found else {}
