"""The training's own copy of the kept samples: shuffled, and readable by its program."""

import io
import json
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow.parquet import read_schema

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_json, read_parquet, write_json
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode
from clipshift.datasets.select import seeded_order
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.training.launch import COPY_SHARDS
from clipshift.training.shards import LEFT_OUT, TEXT, Shard, text_of, trainable, undecodable

# Of the samples in the order of the tars, while they are put into theirs.
SPOOL = ".spool"


def copy_split(
    split: Path, tars: list[Path], cache_px: int | None, seed: int, out: Path,
    parts: int = COPY_SHARDS, without: Collection[str] = (), background: Colour = WHITE,
    texts: bool = True,
) -> int:  # fmt: skip
    """Copy the kept samples of a split into shuffled training shards and return their number.

    Of each sample its first image, and its caption where `texts` are wanted. Where the split's
    table has captions of its own (`caption`), they replace those of the tars. The tars are read
    once, into a file of the copy's size; memory holds keys, captions of the table, and places.
    `done.json` is written last; a copy that has it is used again. It lists the undecodable ones,
    which are left out, and how many samples each shard has.

    Raises:
        ClipshiftError: a kept sample is in none of the tars, or in two.
    """
    done = out / "done.json"
    if done.exists():
        return int(read_json(done)["samples"])
    shutil.rmtree(out, ignore_errors=True)
    keys, captions = kept_of(split, without)

    def trained_on(sample: Sample, row: int) -> dict[str, bytes]:
        caption = captions[row].as_py() if captions is not None else None
        text = {TEXT: _text(sample, caption, cache_px)} if texts else {}
        return _image(sample, cache_px, background).parts | text

    spool = out / SPOOL
    places, left_out = _gather(keys, tars, trained_on, spool)
    missing = [key for key in keys[places[:, 0] < 0].tolist() if key not in left_out]
    if missing:
        raise ClipshiftError(
            f"{split} keeps {len(missing)} samples that are in none of its {len(tars)} tars, "
            f"e.g. {missing[0]!r}; delete the split and run again"
        )
    hashes = np.array([seeded_order(seed, key) for key in keys.tolist()], np.uint64)
    order = np.argsort(hashes, kind="stable")
    sizes = []
    with spool.open("rb") as stream:
        for shard in range(parts):
            rows = [row for row in order[shard::parts] if places[row, 0] >= 0]
            samples = (_sample(stream, str(keys[row]), *places[row]) for row in rows)
            sizes.append(write_tar(out / f"{shard:05d}.tar", samples))
    spool.unlink()
    count = len(keys) - len(left_out)
    write_json(done, {"samples": count, "shards": sizes, "undecodable": left_out})
    return count


def _gather(
    keys: np.ndarray, tars: Iterable[Path], parts: Callable[[Sample, int], dict[str, bytes]],
    spool: Path,
) -> tuple[np.ndarray, dict[str, str]]:  # fmt: skip
    """Write some samples into a file in the order of the tars.

    Args:
        keys: (N,) sorted.
        parts: of a sample and its row, what is written.

    Returns:
        (N, 2) int64, where each lies in the file and how many bytes it has (-1: it does not); and
        why some cannot be decoded.
    """
    places = np.full((len(keys), 2), -1, np.int64)
    left_out: dict[str, str] = {}
    with atomic(spool) as stream:
        for tar in tars:
            for sample in read_tar(tar):
                row = int(np.searchsorted(keys, sample.key))
                if row == len(keys) or keys[row] != sample.key:
                    continue
                if places[row, 0] >= 0 or sample.key in left_out:
                    raise ClipshiftError(f"{tar}: the key {sample.key!r} is in another tar, too")
                try:
                    written = parts(sample, row)
                except Undecodable as reason:
                    left_out[sample.key] = str(reason)
                    continue
                sizes = json.dumps({suffix: len(data) for suffix, data in written.items()})
                start = stream.tell()
                places[row] = (
                    start,
                    stream.write(b"".join([sizes.encode(), b"\n", *written.values()])),
                )
    return places, left_out


def _sample(spool: BinaryIO, key: str, start: int, size: int) -> Sample:
    """A sample that `_gather` wrote."""
    spool.seek(start)
    stream = io.BytesIO(spool.read(size))
    parts = json.loads(stream.readline())
    return Sample(key, {suffix: stream.read(n) for suffix, n in parts.items()})


def copied_shards(copy: Path) -> list[Shard]:
    """The tars of a copy, all of whose samples are trained on."""
    shards: list[Shard] = []
    first = 0
    for number, rows in enumerate(read_json(copy / "done.json")["shards"]):
        shards.append(Shard(str((copy / f"{number:05d}.tar").absolute()), first, rows))
        first += rows
    return shards


def kept_of(split: Path, without: Collection[str] = ()) -> tuple[np.ndarray, Any]:
    """The keys that a split keeps, sorted, and their captions where the table has such a column."""
    named = ["caption"] * ("caption" in read_schema(split).names)
    table = read_parquet(split, ["key", "kept", *named])
    table = table.filter(table["kept"])
    keys = np.array(table["key"].to_pylist(), np.str_)
    rows = np.argsort(keys, kind="stable")
    rows = rows[~np.isin(keys[rows], np.array(sorted(without), np.str_))]
    # Large: captions of many samples exceed the offsets of 32 bits.
    return keys[rows], table["caption"].cast(pa.large_string()).take(rows) if named else None


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
    reasons = read_json(copied).get("undecodable", {}) if copied.exists() else {}
    reasons |= undecodable(work / LEFT_OUT)
    return {"undecodable": dict(sorted(reasons.items()))} if reasons else {}
