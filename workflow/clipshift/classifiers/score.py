"""Score one shard of a pool or a set: per image the calibrated log-odds of each domain.

The table holds `key, natural, rendition, ambiguous`; a column is null where the classifier's form
has no score for the domain. Thresholds come later.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.classifiers import classifier, reductions
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, write_json
from clipshift.core.step import step
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.datasets.tars import Sample
from clipshift.similarity.embeddings import open_shard
from clipshift.splits.split import keys_kept
from clipshift.study.config.classifier_base import DOMAINS

SCHEMA = pa.schema([("key", pa.string()), *((d, pa.float32()) for d in DOMAINS)])
# Rows in memory as float64, and images decoded.
ROWS, IMAGES = 8192, 512
# Why a sample of the pool has no score.
NOT_KEPT = "not kept by `pool_of`"
T = TypeVar("T")


def table(keys: Sequence[str], scores: dict[str, np.ndarray]) -> pa.Table:
    """Scores as a table; domains without a score are null.

    Raises:
        ClipshiftError: a score is NaN: the classifier did not learn.
    """
    for domain, values in scores.items():
        if np.isnan(values).any():
            row = int(np.flatnonzero(np.isnan(values))[0])
            raise ClipshiftError(f"the {domain} score of {keys[row]!r} is NaN: fit it anew")
    empty = pa.nulls(len(keys), pa.float32())
    columns = [pa.array(scores[d]) if d in scores else empty for d in DOMAINS]
    return pa.Table.from_arrays([pa.array(keys, pa.string()), *columns], schema=SCHEMA)


def score_vectors(
    fitted: classifier.Fitted, folder: Path, shard: str, step_counts: StepCounts,
    kept: Collection[str] | None = None,
) -> Iterator[pa.Table]:  # fmt: skip
    """Scores of a shard of embeddings, some rows at a time.

    Args:
        kept: keys to score; None: all.
    """
    stored = open_shard(folder, shard)
    for start in range(0, len(stored.keys), ROWS):
        keys, vectors = stored.keys[start : start + ROWS], stored.vectors[start : start + ROWS]
        step_counts.came_in += len(keys)
        if kept is not None:
            rows = [row for row, key in enumerate(keys) if key in kept]
            step_counts.rejected[NOT_KEPT] += len(keys) - len(rows)
            keys, vectors = [keys[row] for row in rows], vectors[rows]
        if keys:
            yield table(keys, fitted.scores(vectors))


def score_images(
    fitted: classifier.Fitted, tars: Sequence[Path], step_counts: StepCounts,
    kept: Collection[str] | None = None,
) -> Iterator[pa.Table]:  # fmt: skip
    """The same of images by a tuned encoder; each model is loaded once."""
    from clipshift.similarity.embed import images  # torch takes seconds; embeddings need none

    models = {n: fitted.model(n, classes) for n, classes in reductions.names(fitted.spec)}
    samples = _only(kept, read_tars(tars), step_counts)
    for some in batched(images(samples, step_counts), IMAGES):
        keys, batch = [key for key, _ in some], [image for _, image in some]
        logits = {n: m(batch) / fitted.temperatures[n] for n, m in models.items()}
        yield table(keys, reductions.log_odds(fitted.spec.form, logits))


def _only(
    kept: Collection[str] | None, samples: Iterator[Sample], step_counts: StepCounts
) -> Iterator[Sample]:
    """The samples to score; the others are counted, and no image of them is decoded."""
    for sample in samples:
        if kept is None or sample.key in kept:
            yield sample
        else:
            step_counts.came_in += 1
            step_counts.rejected[NOT_KEPT] += 1


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Items in lists of a size, the last one shorter.

    >>> list(batched(iter("abc"), 2))
    [['a', 'b'], ['c']]
    """
    while some := list(islice(items, size)):
        yield some


def write(parts: Iterator[pa.Table], out: Path) -> int:
    """Write parts of a table one after the other; the number of rows."""
    count = 0
    with atomic(out) as stream, pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for part in parts:
            writer.write_table(part)
            count += len(part)
    return count


@step(version=1)
def write_vector_scores(
    spec: classifier.Spec, model: Path, record: Path, vectors: Path, shard: str, table: Path,
    counts: Path, split: Path | None = None, samples: Path | None = None,
) -> None:  # fmt: skip
    """Write the scores of a shard of embeddings.

    Args:
        vectors: embedding folder of the data set.
        split: of whose points alone there are to be scores; samples: the shard's sample table.
    """
    step_counts, fitted = StepCounts("domain scores", shard), classifier.load(spec, model, record)
    parts = score_vectors(fitted, vectors, shard, step_counts, _kept(split, samples))
    step_counts.went_out = write(parts, table)
    write_json(counts, step_counts.as_json())


@step(version=1)
def write_image_scores(
    spec: classifier.Spec, model: Path, record: Path, tars: list[str], shard: str, table: Path,
    counts: Path, split: Path | None = None, samples: Path | None = None,
) -> None:  # fmt: skip
    """The same of a shard of images, by a tuned encoder."""
    step_counts, fitted = StepCounts("domain scores", shard), classifier.load(spec, model, record)
    files = tars_of(tars, data_folder())
    parts = score_images(fitted, files, step_counts, _kept(split, samples))
    step_counts.went_out = write(parts, table)
    write_json(counts, step_counts.as_json())


def _kept(split: Path | None, samples: Path | None) -> set[str] | None:
    return keys_kept(split, samples) if split and samples else None
