"""Make one split: which pool points are kept for training, and why the others are not.

`python -m clipshift.splits --recipe JSON --dedup JSON ...`. A split is a query over stored scores
(margins, de-duplication), never a pass over embeddings. Every pool point is in the table, kept or
with its reason; the points of the reference set are added with the reason `reference`.
"""

import argparse
import errno
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from pydantic import TypeAdapter

from clipshift.config import Dedup, Far, Near, Pruned, Rand, Sized, Split
from clipshift.errors import ClipshiftError, run
from clipshift.files import atomic_path, named_paths, read_json, write_json, write_npy_parts
from clipshift.ledger import Ledger

Paths = Sequence[Path]

# Order in which a sized recipe keeps candidates. The ends of one order: near_k and far_(N-k)
# partition the pool, and both are nested in k.
ORDERS: dict[Any, str] = {
    Near: "similarity, key",
    Far: "similarity DESC, key DESC",
    Rand: "md5('{seed}:' || key), key",
}


@dataclass(frozen=True)
class Scores:
    """Files that a split is made from.

    Attributes:
        pool: sample tables of the pool's shards.
        dedup: de-duplication scores.
        margins: per driving test set, the margins of the shards.
        thresholds: per driving test set, the reference set's similarities.
        reference: sample tables of the reference set (empty: not added).
        like: account of the split to be as large as, where the recipe names one.
    """

    pool: Paths
    dedup: Path
    margins: Mapping[str, Paths]
    thresholds: Mapping[str, Path]
    reference: Paths
    like: Path | None = None


def make(recipe: Any, dedup: Dedup, scores: Scores, out: Path) -> Ledger:
    """Write `out` (the split's parquet, in the order of keys), its account and its exports.

    Raises:
        ClipshiftError: the split is larger than the de-duplicated pool, keeps nothing, or a
            candidate has no score.
    """
    with _database(out) as db:
        _create_pool(db, dedup, scores.pool, scores.dedup)
        _create_score(db, recipe, scores)
        candidates = _count(db, "FROM pool WHERE dropped IS NULL")
        scored = _count(db, "FROM pool JOIN score USING (key) WHERE dropped IS NULL")
        if scored != candidates:
            raise ClipshiftError(
                f"{out.stem}: {candidates - scored} of {candidates} points have no margins; delete "
                "the margins of this pool and run again"
            )
        kept = _keep_condition(recipe, candidates, scores.like, out.stem)
        db.execute(f"CREATE TABLE split AS {_split_query(kept, recipe.recipe)}")
        points_kept = _count(db, "FROM split WHERE kept")
        _insert_reference(db, scores.reference)
        ledger = _account(db, out.stem)
        if not ledger.went_out:
            raise ClipshiftError(f"the split {out.stem} keeps nothing; loosen its recipe")
        with atomic_path(out) as part:
            columns = "(SELECT * EXCLUDE (shard) FROM split ORDER BY key)"
            db.execute(f"COPY {columns} TO '{part}' (FORMAT parquet, COMPRESSION zstd)")
        _export(db, out)
    account = ledger.as_json()
    account |= {"candidates": candidates, "points_kept": points_kept}
    write_json(out.with_suffix(".json"), account)
    return ledger


@contextmanager
def _database(out: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database on disk, since it may exceed memory; a full disk becomes an OSError."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix="clipshift-") as scratch,
            duckdb.connect(str(Path(scratch) / "split.db")) as db,
        ):
            db.execute("SET enable_progress_bar = false")
            yield db
    except duckdb.Error as error:
        # duckdb says that a disk is full in its message only.
        if "could not write" not in str(error).lower():
            raise
        raise OSError(errno.ENOSPC, str(error), str(out)) from error


def _create_pool(db: duckdb.DuckDBPyConnection, dedup: Dedup, pool: Paths, scores: Path) -> None:
    """Table `pool`: the points, their shard, and why de-duplication dropped them (or null)."""
    duplicate = "false" if dedup.rule == "none" else f"d.similarity > {dedup.threshold!r}"
    db.execute(
        f"""CREATE TABLE pool AS
        SELECT p.key, p.url_hash, p.sha256, parse_filename(p.filename, true) AS shard,
            CASE WHEN d.key IS NULL THEN 'not embedded'
                 WHEN {duplicate} THEN 'duplicate' END AS dropped
        FROM read_parquet({_list(pool)}, filename = true) p
        LEFT JOIN read_parquet('{scores}') d USING (key)"""
    )


def _create_score(db: duckdb.DuckDBPyConnection, recipe: Any, scores: Scores) -> None:
    """Table `score`: per point the driving set that decides about it, with its numbers.

    Several sets: the largest similarity (near, far) or the largest margin (pruned) decides; equal
    ones go to the set named first.
    """
    if isinstance(recipe, Near | Far | Pruned):
        decides = "margin" if isinstance(recipe, Pruned) else "similarity"
        query = _margins if isinstance(recipe, Pruned) else _similarities
        parts = [
            f"SELECT *, {i} AS place, '{name}' AS test_set FROM ({query(name, scores)})"
            for i, name in enumerate(recipe.sets)
        ]
        source = (
            f"({' UNION ALL '.join(parts)}) QUALIFY row_number() OVER "
            f"(PARTITION BY key ORDER BY {decides} DESC, place) = 1"
        )
    else:
        nothing = "NULL::VARCHAR AS test_set, NULL::VARCHAR AS test_key"
        numbers = ", ".join(f"NULL::FLOAT AS {c}" for c in ("similarity", "threshold", "margin"))
        source = f"(SELECT key, {nothing}, {numbers} FROM pool)"
    columns = "key, test_set, test_key, similarity, threshold, margin"
    db.execute(f"CREATE TABLE score AS SELECT {columns} FROM {source}")


def _similarities(name: str, scores: Scores) -> str:
    return (
        "SELECT key, nearest_test_key AS test_key, max_similarity AS similarity, "
        "NULL::FLOAT AS threshold, NULL::FLOAT AS margin "
        f"FROM read_parquet({_list(scores.margins[name])})"
    )


def _margins(name: str, scores: Scores) -> str:
    return (
        "SELECT m.key, margin_test_key AS test_key, "
        "(t.similarity + m.margin)::FLOAT AS similarity, "
        "t.similarity::FLOAT AS threshold, m.margin "
        f"FROM read_parquet({_list(scores.margins[name])}) m "
        f"JOIN read_parquet('{scores.thresholds[name]}') t ON t.test_key = m.margin_test_key"
    )


def _keep_condition(recipe: Any, candidates: int, like: Path | None, name: str) -> str:
    """SQL condition that a candidate is kept."""
    if isinstance(recipe, Pruned):
        return f"NOT margin > {recipe.tolerance!r}"
    if not isinstance(recipe, Sized):
        return "true"
    if isinstance(recipe.keep, str):
        if like is None:
            raise ClipshiftError(
                f"{name} is to be as large as {recipe.keep}, whose account is missing"
            )
        size = int(read_json(like)["points_kept"])
    elif isinstance(recipe.keep, float):
        size = round(recipe.keep * candidates)
    else:
        size = recipe.keep
    if size > candidates:
        raise ClipshiftError(
            f"the split {name} wants to keep {size} points, but the de-duplicated pool has only "
            f"{candidates}; lower `keep`, or give a share of the pool"
        )
    order = ORDERS[type(recipe)].format(seed=getattr(recipe, "seed", 0))
    return f"row_number() OVER (PARTITION BY dropped IS NULL ORDER BY {order}) <= {size}"


def _split_query(kept: str, recipe: str) -> str:
    pruned = {"pruned": "closer than the reference set"}.get(recipe, f"{recipe}-pruned")
    return f"""
        SELECT key, url_hash, sha256, coalesce(dropped IS NULL AND {kept}, false) AS kept,
            CASE WHEN dropped IS NOT NULL THEN dropped WHEN kept THEN 'kept'
                 ELSE '{pruned}' END AS reason,
            test_set, test_key AS nearest_test_key, similarity, threshold, margin, shard
        FROM pool LEFT JOIN score USING (key)"""


def _insert_reference(db: duckdb.DuckDBPyConnection, reference: Paths) -> None:
    if not reference:
        return
    rows = f"read_parquet({_list(reference)})"
    clash = db.execute(f"SELECT min(key) FROM split SEMI JOIN {rows} USING (key)").fetchall()[0][0]
    if clash is not None:
        raise ClipshiftError(f"the key {clash!r} is in the pool and in the reference set")
    db.execute(
        "INSERT INTO split SELECT key, url_hash, sha256, true, 'reference', NULL, NULL, "
        f"NULL, NULL, NULL, NULL FROM {rows}"
    )


def _account(db: duckdb.DuckDBPyConnection, name: str) -> Ledger:
    ledger = Ledger("split", name, _count(db, "FROM split"), _count(db, "FROM split WHERE kept"))
    dropped = "SELECT reason, count(*) FROM split WHERE NOT kept GROUP BY reason"
    ledger.rejected.update(dict(db.execute(dropped).fetchall()))
    return ledger


def _export(db: duckdb.DuckDBPyConnection, out: Path) -> None:
    """Kept points for other tools: key list, DataComp's subset, open_clip's sizes per shard."""
    kept = _count(db, "FROM split WHERE kept")
    width = _count(db, "max(length(key)) FROM split WHERE kept", "")
    _stream_npy(db, "key", kept, f"<U{width}", out.with_suffix(".keys.npy"))
    _stream_npy(db, "url_hash", kept, "u8,u8", out.with_suffix(".subset_u8u8.npy"))
    sizes = db.execute(
        "SELECT shard || '.tar', count(*) FILTER (kept) FROM split WHERE shard IS NOT NULL "
        "GROUP BY shard ORDER BY shard"
    ).fetchall()
    write_json(out.with_suffix(".sizes.json"), dict(sizes))


def _stream_npy(
    db: duckdb.DuckDBPyConnection, column: str, rows: int, dtype: str, out: Path
) -> None:
    """Write one sorted column of the kept points as npy, batch by batch."""
    db.execute(f"SELECT {column} FROM split WHERE kept ORDER BY {column}")

    def parts() -> Iterator[np.ndarray]:
        while batch := db.fetchmany(100_000):
            values: list[Any] = [value for (value,) in batch]
            if dtype == "u8,u8":
                values = [(int(v[:16], 16), int(v[16:32], 16)) for v in values]
            yield np.array(values, dtype=np.dtype(dtype))

    write_npy_parts(out, np.dtype(dtype), (rows,), parts())


def _count(db: duckdb.DuckDBPyConnection, rest: str, what: str = "count(*)") -> int:
    return int(db.execute(f"SELECT {what} {rest}").fetchall()[0][0])


def _list(paths: Paths) -> str:
    return "[" + ", ".join(f"'{p}'" for p in paths) + "]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True, help="JSON of the split block")
    parser.add_argument("--dedup-rule", required=True, help="JSON of the dedup block")
    parser.add_argument("--pool", type=Path, nargs="+", required=True, help="sample tables")
    parser.add_argument("--dedup", type=Path, required=True)
    parser.add_argument("--margins", action="append", default=[], metavar="SET=FILE[,FILE...]")
    parser.add_argument("--thresholds", action="append", default=[], metavar="SET=FILE")
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="sample tables")
    parser.add_argument("--like", type=Path, help="account of the split to be as large as")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    scores = Scores(
        args.pool,
        args.dedup,
        named_paths(args.margins),
        {name: file for name, (file,) in named_paths(args.thresholds).items()},
        args.reference,
        args.like,
    )
    recipe = TypeAdapter(Split).validate_json(args.recipe)
    dedup = Dedup.model_validate_json(args.dedup_rule)
    print(json.dumps(make(recipe, dedup, scores, args.out).as_json(), indent=2))


if __name__ == "__main__":
    run(main)
