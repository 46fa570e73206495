"""Score one shard of a pool or a set: per picture the calibrated log-odds of each domain.

`python -m clipshift.classifiers.score --spec JSON --model FILE --record FILE --vectors FOLDER --shard
NAME | --tar WORD...  --out FILE` writes `key, natural, rendition, ambiguous`; a column is null
where the classifier's form knows nothing of the domain. Thresholds come later.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.classifiers import classifier, reductions
from clipshift.core.counts import Ledger
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import atomic, write_json
from clipshift.datasets.tar_paths import add_data, tars_of
from clipshift.similarity.embeddings import open_shard
from clipshift.study.config.domains import DOMAINS

SCHEMA = pa.schema([("key", pa.string()), *((d, pa.float32()) for d in DOMAINS)])
# Rows in memory as float64, and pictures decoded.
ROWS, PICTURES = 8192, 512
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


def score_vectors(fitted: classifier.Fitted, folder: Path, shard: str) -> Iterator[pa.Table]:
    """Scores of a shard of embeddings, some rows at a time."""
    stored = open_shard(folder, shard)
    for start in range(0, len(stored.keys), ROWS):
        rows = slice(start, start + ROWS)
        yield table(stored.keys[rows], fitted.scores(stored.vectors[rows]))


def score_pictures(
    fitted: classifier.Fitted, tars: Sequence[Path], ledger: Ledger
) -> Iterator[pa.Table]:
    """Scores of pictures by a tuned encoder, some at a time; each model is loaded once."""
    from clipshift.classifiers import finetune
    from clipshift.similarity import encoders  # torch takes seconds; embeddings need none
    from clipshift.similarity.embed import pictures

    models = {
        name: finetune.restore(encoders.load(fitted.encoder), fitted.models[name])
        for name, _ in reductions.names(fitted.spec.form)
    }
    for some in batched(pictures(tars, ledger), PICTURES):
        keys, images = [key for key, _ in some], [image for _, image in some]
        logits = {n: m.logits(images) / fitted.temperatures[n] for n, m in models.items()}
        yield table(keys, reductions.log_odds(fitted.spec.form, logits))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON of the classifier and its encoder")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, help="embedding folder of the data set")
    parser.add_argument("--shard", required=True)
    parser.add_argument("--tar", action="append", default=[])
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    fitted = classifier.load(classifier.read_spec(args.spec), args.model, args.record)
    ledger = Ledger("domain scores", args.shard)
    if fitted.reads_pictures:
        parts = score_pictures(fitted, tars_of(args.tar, args.data), ledger)
    else:
        parts = score_vectors(fitted, args.vectors, args.shard)
    ledger.went_out = write(parts, args.out)
    if not fitted.reads_pictures:
        ledger.came_in = ledger.went_out
    write_json(args.out.with_suffix(".json"), ledger.as_json())


if __name__ == "__main__":
    run(main)
