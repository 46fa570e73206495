"""Embed one shard of pictures.

`python -m clipshift.similarity.embed --encoder JSON --tar WORD --table FILE --shard NAME --out FOLDER` writes
the shard in clip-retrieval's layout, then embeds a few rows again, alone, and compares.
"""

import argparse
import io
import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter
from tqdm import tqdm

from clipshift.core.counts import Ledger
from clipshift.core.device import available_cores
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_parquet, write_json
from clipshift.datasets.shards import Sample
from clipshift.datasets.tar_paths import add_arguments, read_tars, tars_of
from clipshift.similarity import encoders
from clipshift.similarity.embeddings import read_shard, write_shard
from clipshift.study.config.encoders import Encoder

CHECKED_ROWS = 4
# Pictures decoded ahead, per core.
AHEAD = 4
# A row embedded alone may differ from its row in a batch by float32 rounding, then by float16.
CHECK_TOLERANCE = 1e-3


def pictures(tars: Path | Sequence[Path], ledger: Ledger) -> Iterator[tuple[str, Image.Image]]:
    """Decoded pictures of some tars by key, in order; undecodable ones are counted and left out."""
    for key, decoded in _ahead(read_tars(tars)):
        ledger.came_in += 1
        try:
            yield key, decoded.result()
        except StopIteration:
            ledger.rejected["no picture in the sample"] += 1
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
            ledger.rejected["undecodable picture"] += 1


def _ahead(samples: Iterator[Sample]) -> Iterator[tuple[str, Future[Image.Image]]]:
    """Keys of samples and their pictures, which all cores decode a little ahead."""
    cores = available_cores()
    waiting: deque[tuple[str, Future[Image.Image]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for sample in samples:
            waiting.append((sample.key, pool.submit(_decode, sample)))
            if len(waiting) > AHEAD * cores:
                yield waiting.popleft()
        yield from waiting


def _decode(sample: Sample) -> Image.Image:
    return Image.open(io.BytesIO(sample.image)).convert("RGB")


def embed(
    encoder: encoders.Encoder, tars: Path | Sequence[Path], table: Path, shard: str, out: Path
) -> Ledger:
    """Embed one shard and return its account. A large shard is in memory as vectors and keys only.

    Raises:
        ClipshiftError: a sample without a row, a row without a sample, or no picture at all.
    """
    ledger = Ledger("embed", shard)
    tar = tars if isinstance(tars, Path) else tars[0]
    rows = read_parquet(table, ["key", "caption", "url_hash", "sha256"])
    known = set(rows["key"].to_pylist())
    keys: list[str] = []
    chunks: list[np.ndarray] = []
    batch: list[Image.Image] = []
    progress = tqdm(total=len(known), desc=f"embed {tar}", mininterval=5, file=sys.stderr)
    for key, image in pictures(tars, ledger):
        if key not in known:
            raise ClipshiftError(f"{tar}: the sample {key!r} has no row in {table}")
        keys.append(key)
        batch.append(image)
        if len(batch) == encoder.batch:
            chunks.append(encoder.encode(batch).astype(np.float16))
            progress.update(len(batch))
            batch = []
    if batch:
        chunks.append(encoder.encode(batch).astype(np.float16))
    if not keys:
        raise ClipshiftError(f"{tar}: no picture of {ledger.came_in} samples could be embedded")
    if ledger.came_in < len(known):
        raise ClipshiftError(
            f"{table} lists {len(known)} samples, but its tars ({tar} ...) hold "
            f"{ledger.came_in}; get the tars that go with their tables again"
        )
    ledger.went_out = len(keys)
    image_path = pa.array(keys)
    mine = rows.combine_chunks().take(pc.index_in(image_path, rows["key"]))
    metadata = pa.table({"image_path": image_path, **{c: mine[c] for c in mine.column_names[1:]}})
    write_shard(out, shard, np.concatenate(chunks), metadata)
    verify(encoder, tars, shard, out)
    write_json(out / "account" / f"account_{shard}.json", ledger.as_json())
    return ledger


def verify(encoder: encoders.Encoder, tars: Path | Sequence[Path], shard: str, out: Path) -> None:
    """Embed some stored rows again from their pictures and compare: alignment and numbers."""
    stored = read_shard(out, shard)
    rows = np.unique(np.linspace(0, len(stored.keys) - 1, CHECKED_ROWS).astype(int))
    wanted = {stored.keys[row]: row for row in rows}
    for key, image in pictures(tars, Ledger("verify", shard)):
        if key in wanted:
            again = encoder.encode([image])[0]
            similarity = float(again @ stored.vectors[wanted[key]].astype(np.float64))
            if abs(similarity - 1) > CHECK_TOLERANCE:
                raise ClipshiftError(
                    f"{out} shard {shard}: row {wanted[key]} (key {key!r}) has the similarity "
                    f"{similarity:.5f} to its own picture; rows and metadata are not aligned"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", required=True, help="JSON of the encoder block")
    add_arguments(parser)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--shard", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = encoders.load(TypeAdapter(Encoder).validate_json(args.encoder), args.device)
    tars = tars_of(args.tar, args.data)
    print(json.dumps(embed(encoder, tars, args.table, args.shard, args.out).as_json(), indent=2))


if __name__ == "__main__":
    run(main)
