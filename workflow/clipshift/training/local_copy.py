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
from clipshift.training.shards import LEFT_OUT, TEXT, Shard, text_of, trainable, undecodable

# Images held in memory while copying, bytes.
COPY_BYTES = 1 << 30


def copy_split(
    split: Path, tars: list[Path], cache_px: int | None, seed: int, out: Path,
    parts: int = COPY_SHARDS, without: Collection[str] = (), background: Colour = WHITE,
    texts: bool = True,
) -> int:  # fmt: skip
    """Copy the kept samples of a split into shuffled training shards and return their number.

    Of each sample its first image, and its caption where `texts` are wanted. Where the split's
    table has captions of its own (`caption`), they replace those of the tars. `done.json` is
    written last; a copy that has it is used again. It lists the undecodable ones, which are left
    out, and how many samples each shard has.

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
    sizes: list[int] = []
    for first in range(0, parts, group):
        shards = range(first, min(first + group, parts))
        wanted = {key for shard in shards for key in order[shard::parts]}
        found, reasons = _find(wanted, tars, cache_px, captions, background, texts)
        left_out |= reasons
        if missing := wanted - found.keys() - reasons.keys():
            raise ClipshiftError(
                f"{split} keeps {len(missing)} samples that are in none of its {len(tars)} tars, "
                f"e.g. {min(missing)!r}; delete the split and run again"
            )
        for shard in shards:
            mine = (found[key] for key in order[shard::parts] if key in found)
            sizes.append(write_tar(out / f"{shard:05d}.tar", mine))
    count = len(order) - len(left_out)
    write_json(done, {"samples": count, "shards": sizes, "undecodable": left_out})
    return count


def copied_shards(copy: Path) -> list[Shard]:
    """The tars of a copy, all of whose samples are trained on."""
    shards: list[Shard] = []
    first = 0
    for number, rows in enumerate(read_json(copy / "done.json")["shards"]):
        shards.append(Shard(str((copy / f"{number:05d}.tar").absolute()), first, rows))
        first += rows
    return shards


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
    background: Colour, texts: bool,
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
                    text = {TEXT: _text(sample, captions[key], cache_px)} if texts else {}
                    image = _image(sample, cache_px, background)
                    found[key] = Sample(key, image.parts | text)
                except Undecodable as reason:
                    reasons[key] = str(reason)
    return found, reasons


def _text(sample: Sample, caption: str | None, cache_px: int | None) -> bytes:
    if caption is not None:
        return caption.encode()
    if cache_px is not None and TEXT not in sample.parts:
        return b""
    return text_of(sample)


def _image(sample: Sample, cache_px: int | None, background: Colour) -> Sample:
    if cache_px is None:
        return trainable(sample, background)
    image = decode(sample.image, background)
    small = io.BytesIO()
    image.resize((cache_px, cache_px), Image.Resampling.BICUBIC).save(small, "PNG")
    return Sample(sample.key, {"png": small.getvalue()})


def unseen(work: Path) -> dict[str, Any]:
    """For the record: the samples that a training left out since they cannot be decoded."""
    copied = work / "data/done.json"
    found = read_json(copied).get("undecodable", {}) if copied.exists() else {}
    found |= undecodable(work / LEFT_OUT)
    return {"undecodable": dict(sorted(found.items()))} if found else {}
