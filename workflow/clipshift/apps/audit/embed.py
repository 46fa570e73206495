"""Embed a folder of images into clip-retrieval's layout, in parts that survive a kill."""

import itertools
import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import differing, identities
from clipshift.core.files import sha256_bytes
from clipshift.core.output_folder import read_record, write_record
from clipshift.datasets.any_images import Images
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode
from clipshift.datasets.records import Record, Rejected, printable
from clipshift.similarity import encoders
from clipshift.similarity.embeddings import shard_paths, write_shard
from clipshift.similarity.encoder import Encoder

PART = 1024  # images per shard; what a kill can cost


def fingerprint(found: Images, encoder: dict[str, Any]) -> str:
    """Identity of images by names, sizes and times of change, and of the encoder."""
    rows = []
    for name in found.names:
        stat = (found.folder / name).stat()
        rows.append([printable(name), stat.st_size, stat.st_mtime_ns])
    text = json.dumps([str(found.folder.resolve()), rows, encoder])
    return sha256_bytes(text.encode())[:16]


def embed_folder(
    side: str, images: Images, encoder: dict[str, Any], out: Path, device: str,
    background: Colour = WHITE,
) -> StepCounts:  # fmt: skip
    """Embed what is not yet embedded and return the counts of all.

    Writes `out/img_emb`, `out/metadata` (image_path, sha256) and `out/account`; a part counts as
    done when its counts are there, and its files are those that were written.

    Raises:
        ClipshiftError: no image could be embedded.
    """
    total = StepCounts("embed", side)
    loaded: Encoder | None = None
    progress = tqdm(desc=f"embed {side}", unit=" images", mininterval=2, file=sys.stderr)
    for number, (_, found) in enumerate(images.units()):
        for part, chunk in enumerate(_parts(found)):
            shard = f"{number:05d}-{part:05d}"
            step_counts = out / "account" / f"account_{shard}.json"
            record = _done(out, step_counts)
            if record:
                deque(chunk, maxlen=0)
            else:
                loaded = loaded or _load(encoder, device)
                _embed_part(loaded, shard, chunk, out, progress, background)
                record = read_record(step_counts) or {}
            total.add(StepCounts.from_json(record["account"]))
    progress.close()
    if not total.went_out:
        raise ClipshiftError(
            f"{images.folder}: none of {total.came_in} images could be embedded: "
            f"{dict(total.rejected)}"
        )
    return total


def rejections(folder: Path) -> list[Rejected]:
    """Every image that `embed_folder` left out, in order."""
    paths = sorted((folder / "account").glob("account_*.json"))
    found = []
    for path in paths:
        record = read_record(path, "rejected")
        if record is None:
            raise ClipshiftError(f"{path} is damaged; run again, which makes it again")
        found += [Rejected(**row) for row in record["rejected"]]
    return found


def _done(out: Path, path: Path) -> dict[str, Any] | None:
    """The record of a part that is whole; says which file of another one is damaged."""
    if not path.exists():
        return None
    record = read_record(path, "account", "rejected", "outputs")
    damaged = [path] if record is None else list(differing(out, record["outputs"]))
    for file in damaged:
        print(f"{file} is damaged or missing; its part is embedded again", file=sys.stderr)
    return None if damaged else record


def _load(encoder: dict[str, Any], device: str) -> Encoder:
    from pydantic import TypeAdapter

    from clipshift.study.config.encoders import Encoder as EncoderBlock

    return encoders.load(TypeAdapter(EncoderBlock).validate_python(encoder), device)


def _parts(found: Iterator[Record | Rejected]) -> Iterator[Iterator[Record | Rejected]]:
    """Pieces of PART records, each to be used up before the next: a record may hold its bytes."""
    for first in found:
        yield itertools.chain([first], itertools.islice(found, PART - 1))


def _embed_part(
    encoder: Encoder,
    shard: str,
    chunk: Iterator[Record | Rejected],
    out: Path,
    progress: "tqdm[Any]",
    background: Colour,
) -> None:
    came_in = 0
    kept: list[dict[str, str]] = []
    rejected: list[Rejected] = []
    vectors: list[Any] = []
    batch: list[Image.Image] = []
    for record in chunk:
        came_in += 1
        image = _open(record, kept, rejected, background)
        if image is not None:
            batch.append(image)
        if len(batch) == encoder.batch:
            vectors.append(encoder.encode(batch))
            batch = []
        progress.update()
    if batch:
        vectors.append(encoder.encode(batch))
    if kept:
        write_shard(out, shard, np.concatenate(vectors), pa.Table.from_pylist(kept))
    step_counts = StepCounts(
        "embed", shard, came_in, len(kept), Counter(r.reason for r in rejected)
    )
    outputs = identities(out, shard_paths(out, shard) if kept else [])
    write_record(
        out / "account" / f"account_{shard}.json",
        {"account": step_counts.as_json(), "rejected": [asdict(r) for r in rejected]}
        | {"outputs": outputs},
    )


def _open(
    record: Record | Rejected, kept: list[dict[str, str]], rejected: list[Rejected],
    background: Colour,
) -> Image.Image | None:  # fmt: skip
    """The image; its key enters `kept`, or the reason why there is none `rejected`."""
    if isinstance(record, Rejected):
        rejected.append(record)
        return None
    try:
        data = record.place.read()
        image = decode(data, background)
    except (OSError, Undecodable) as error:
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"unreadable file: {error.strerror}"
        rejected.append(Rejected(record.key, str(record.place), reason))
        return None
    kept.append({"image_path": record.key, "sha256": sha256_bytes(data)})
    return image
