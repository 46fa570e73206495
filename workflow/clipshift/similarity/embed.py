"""Embeddings of one shard of images, in clip-retrieval's layout.

Row r of `img_emb_{shard}.npy` (N, D) float16 and row r of `metadata_{shard}.parquet` (`image_path`,
which is the key, `caption, url_hash, sha256`) belong together. `account_{shard}.json` counts the
images. A few rows are embedded again, alone, and compared.
"""

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from tqdm import tqdm

from clipshift.core.counts import StepCounts
from clipshift.core.device import available_cores
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, sha256_bytes, write_json
from clipshift.core.step import step
from clipshift.datasets.images import WHITE, Colour, Undecodable, colour, decode
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.datasets.tars import Sample
from clipshift.similarity import encoders
from clipshift.similarity.embeddings import read_shard, write_shard
from clipshift.similarity.encoder import Encoder
from clipshift.study.config.encoders import Encoder as EncoderBlock

CHECKED_ROWS = 4
# Images decoded ahead, per core.
AHEAD = 4
# A row embedded alone may differ from its row in a batch by float32 rounding, then by float16.
CHECK_TOLERANCE = 1e-3


def images(
    samples: Iterator[Sample], step_counts: StepCounts, background: Colour = WHITE
) -> Iterator[tuple[str, Image.Image]]:
    """Decoded images of samples by key, in order; undecodable ones are counted and left out."""
    for key, decoded in _ahead(samples, background):
        step_counts.came_in += 1
        try:
            yield key, decoded.result()
        except Undecodable as reason:
            step_counts.rejected[str(reason)] += 1


def _ahead(
    samples: Iterator[Sample], background: Colour
) -> Iterator[tuple[str, Future[Image.Image]]]:
    """Keys of samples and their images, which all cores decode a little ahead."""
    cores = available_cores()
    waiting: deque[tuple[str, Future[Image.Image]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for sample in samples:
            waiting.append((sample.key, pool.submit(_decode, sample, background)))
            if len(waiting) > AHEAD * cores:
                yield waiting.popleft()
        yield from waiting


def _as_listed(
    samples: Iterator[Sample], hashes: Mapping[str, str | None], table: Path
) -> Iterator[Sample]:
    """The samples of a table, which must have the bytes that they had when it was made.

    Args:
        hashes: SHA-256 of the image of each key, None where it is not known.
    """
    for sample in samples:
        if sample.key not in hashes:
            raise ClipshiftError(f"the sample {sample.key!r} has no row in {table}")
        wanted = hashes[sample.key]
        if wanted and sample.has_image and sha256_bytes(sample.image) != wanted:
            raise ClipshiftError(
                f"the image of the sample {sample.key!r} is another one than in {table}: its tar "
                "was replaced since. Delete the table and run again"
            )
        yield sample


def _decode(sample: Sample, background: Colour) -> Image.Image:
    return decode(sample.image, background)


def embed(
    encoder: Encoder, tars: Path | Sequence[Path], table: Path, shard: str, out: Path,
    background: Colour = WHITE,
) -> StepCounts:  # fmt: skip
    """Embed one shard and return its counts. A large shard is in memory as vectors and keys only.

    Raises:
        ClipshiftError: a sample without a row or with other bytes than it had when the table was
            made, a row without a sample, or no image of any sample.
    """
    step_counts = StepCounts("embed", shard)
    tar = tars if isinstance(tars, Path) else tars[0]
    rows = read_parquet(table, ["key", "caption", "url_hash", "sha256"])
    known = dict(zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    keys: list[str] = []
    chunks: list[np.ndarray] = []
    batch: list[Image.Image] = []
    progress = tqdm(total=len(known), desc=f"embed {tar}", mininterval=5, file=sys.stderr)
    samples = _as_listed(read_tars(tars), known, table)
    for key, image in images(samples, step_counts, background):
        keys.append(key)
        batch.append(image)
        if len(batch) == encoder.batch:
            chunks.append(encoder.encode(batch).astype(np.float16))
            progress.update(len(batch))
            batch = []
    if batch:
        chunks.append(encoder.encode(batch).astype(np.float16))
    if not known and not step_counts.came_in:  # a tar of which no download succeeded
        chunks.append(encoder.encode([Image.new("RGB", (64, 64), "grey")])[:0].astype(np.float16))
    elif not keys:
        raise ClipshiftError(f"{tar}: no image of {step_counts.came_in} samples could be embedded")
    if step_counts.came_in < len(known):
        raise ClipshiftError(
            f"{table} lists {len(known)} samples, but its tars ({tar} ...) hold "
            f"{step_counts.came_in}; get the tars that go with their tables again"
        )
    step_counts.went_out = len(keys)
    image_path = pa.array(keys, pa.string())
    mine = rows.combine_chunks().take(pc.index_in(image_path, rows["key"]))
    metadata = pa.table({"image_path": image_path, **{c: mine[c] for c in mine.column_names[1:]}})
    write_shard(out, shard, np.concatenate(chunks), metadata)
    verify(encoder, tars, shard, out, background)
    said = {} if encoder.precision == "fp32" else {"precision": encoder.precision}
    write_json(out / "account" / f"account_{shard}.json", step_counts.as_json() | said)
    return step_counts


def verify(
    encoder: Encoder, tars: Path | Sequence[Path], shard: str, out: Path,
    background: Colour = WHITE,
) -> None:  # fmt: skip
    """Embed some stored rows again from their images and compare: alignment and numbers."""
    stored = read_shard(out, shard)
    if not stored.keys:
        return
    rows = np.unique(np.linspace(0, len(stored.keys) - 1, CHECKED_ROWS).astype(int))
    wanted = {stored.keys[row]: row for row in rows}
    for key, image in images(read_tars(tars), StepCounts("verify", shard), background):
        if key in wanted:
            again = encoder.encode([image])[0]
            similarity = float(again @ stored.vectors[wanted[key]].astype(np.float64))
            if abs(similarity - 1) > CHECK_TOLERANCE:
                raise ClipshiftError(
                    f"{out} shard {shard}: row {wanted[key]} (key {key!r}) has the similarity "
                    f"{similarity:.5f} to its own image; rows and metadata are not aligned"
                )


@step(version=1)
def shard(
    encoder: EncoderBlock, tars: list[str], table: Path, shard: str, out: Path,
    background: str = "#ffffff",
) -> None:  # fmt: skip
    """`embed` one shard.

    Args:
        tars: words, see `clipshift.datasets.tar_paths`.
        table: the sample table of the shard.
        out: an embedding folder.
        background: behind transparent pixels.
    """
    paths = tars_of(tars, data_folder())
    embed(encoders.load(encoder), paths, table, shard, out, colour(background))
