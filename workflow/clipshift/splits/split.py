"""Make one split: which pool points are kept for training, and why the others are not.

A split is a query over stored scores (margins, decisions, de-duplication), never a pass over
embeddings. Every pool point is in the table, kept or with its reason; the points of the reference
set are added with the reason `reference`, or, in a split by domain, drawn like those of the pool.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from clipshift.core.brace_ranges import spread
from clipshift.core.counts import StepCounts
from clipshift.core.database import Paths, count, database, literal, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic_path, read_json, write_json
from clipshift.core.step import step
from clipshift.datasets.keys import refuse_repeats
from clipshift.splits.exports import create_tars, export, has_uids, identity_of
from clipshift.splits.recipes import select
from clipshift.splits.recipes.full import Full
from clipshift.study.config.recipe_base import Margins, Seeded
from clipshift.study.config.splits import Split

# The points of the table `pool` that are kept.
_KEPT = "FROM pool SEMI JOIN (SELECT key FROM pool_chosen WHERE kept) USING (key)"


@dataclass(frozen=True)
class Scores:
    """Files that a split is made from.

    Attributes:
        pool: sample tables of the pool's shards.
        embedded: the points that have an embedding: tables with `key, dropped` of the
            de-duplication, or metadata of the embeddings (`image_path`), where nothing is
            de-duplicated; or the pool's own tables (`key`), where nothing is embedded.
        margins: of the pool, for the recipe's driving sets; or the decisions on all points.
        reference: sample tables of the reference set (empty: not added).
        reference_margins: of the reference set, where the recipe prunes it.
        like: counts of the split to be as large as, where the recipe names one.
    """

    pool: Paths
    embedded: Paths
    margins: Margins
    reference: Paths
    reference_margins: Margins
    like: Path | None = None


def keys_kept(split: Path, samples: Path) -> set[str]:
    """Keys of the samples of a shard that a split keeps.

    Args:
        samples: the shard's sample table.
    """
    with database() as db:
        ends = db.execute(f"SELECT min(key), max(key) FROM {parquet([samples])}").fetchall()[0]
        # The split is in the order of keys: little of it is read for a shard.
        near = f"SELECT key FROM {parquet([split])} WHERE kept AND key BETWEEN ? AND ?"
        query = f"SELECT key FROM ({near}) SEMI JOIN {parquet([samples])} USING (key)"
        return {key for (key,) in db.execute(query, ends).fetchall()}


def make(recipe: Seeded, scores: Scores, out: Path) -> StepCounts:
    """Write `out` (the split's parquet, in the order of keys), its counts and its exports.

    Raises:
        ClipshiftError: the split is larger than the de-duplicated pool, keeps nothing, a
            candidate has no score, or a key occurs twice.
    """
    with database() as db:
        _create_pool(db, scores.pool, scores.embedded)
        if scores.reference:
            _create_reference(db, scores)
        _gather(db, recipe, scores)
        select(db, "pool", recipe, scores.margins, _size_like(recipe, scores.like, out), out.stem)
        candidates = count(db, "FROM pool WHERE dropped IS NULL")
        points_kept = count(db, "FROM pool_chosen WHERE kept")
        parts = ["SELECT * FROM pool JOIN pool_chosen USING (key)"]
        kept = {"candidates": candidates, "points_kept": points_kept}
        if recipe.draws_reference:
            kept["reference_kept"] = count(db, f"{_KEPT} WHERE shard IS NULL")
        elif scores.reference:
            _select_reference(db, recipe, scores, out.stem)
            parts.append("SELECT * FROM reference JOIN reference_chosen USING (key)")
            kept["reference_kept"] = count(db, "FROM reference_chosen WHERE kept")
        kept |= _groups_kept(db, recipe.groups(scores.margins))
        db.execute(
            "CREATE TABLE split AS SELECT key, url_hash, sha256, uid, kept, reason, test_set, "
            "test_key AS nearest_test_key, similarity, threshold, margin, shard "
            f"FROM ({' UNION ALL BY NAME '.join(parts)})"
        )
        return _write(db, kept, out)


def _write(db: duckdb.DuckDBPyConnection, kept: dict[str, int], out: Path) -> StepCounts:
    """Write the table `split` of a database: parquet, counts and exports.

    Args:
        kept: candidates, points kept, and those kept of the reference set and of each group.

    Raises:
        ClipshiftError: nothing is kept.
    """
    step_counts = _counts(db, out.stem)
    if not step_counts.went_out:
        raise ClipshiftError(f"the split {out.stem} keeps nothing; loosen its recipe")
    with atomic_path(out) as part:
        unused = "shard" if has_uids(db) else "shard, uid"
        columns = f"(SELECT * EXCLUDE ({unused}) FROM split ORDER BY key)"
        db.execute(f"COPY {columns} TO {literal(part)} (FORMAT parquet, COMPRESSION zstd)")
    subset = export(db, out)
    write_json(out.with_suffix(".json"), step_counts.as_json() | kept | {"subset": subset})
    return step_counts


def _create_pool(db: duckdb.DuckDBPyConnection, tables: Paths, embedded: Paths) -> None:
    """Table `pool`: the points, their tar, and why they are no candidates (or null)."""
    refuse_repeats(tables)
    source = parquet(embedded)
    columns = [row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]
    key = "image_path AS key" if "image_path" in columns else "key"
    known = "key, dropped" if "dropped" in columns else f"{key}, false AS dropped"
    create_tars(db, tables)
    db.execute(
        f"""CREATE TABLE pool AS
        SELECT p.key, p.url_hash, {identity_of(db, tables)}, t.name AS shard,
            CASE WHEN d.key IS NULL THEN 'not embedded'
                 WHEN d.dropped THEN 'duplicate' END AS dropped
        FROM {parquet(tables, ", union_by_name = true")} p
        ASOF JOIN tars t ON p.file_index = t.file AND p.file_row_number >= t.first
        LEFT JOIN (SELECT {known} FROM {source}) d USING (key)"""
    )


def _create_reference(db: duckdb.DuckDBPyConnection, scores: Scores) -> None:
    """Table `reference`: its points, and why they are no candidates (or null)."""
    table = parquet(scores.reference)
    dropped = "NULL::VARCHAR"
    files = next(iter(scores.reference_margins.margins.values()), scores.margins.decisions)
    if files:
        scored = f"SELECT key FROM {parquet(files)}"
        dropped = f"CASE WHEN key NOT IN ({scored}) THEN 'not embedded' END"
    db.execute(
        "CREATE TABLE reference AS SELECT key, url_hash, sha256, NULL::VARCHAR AS uid, "
        "NULL::VARCHAR AS shard, "
        f"{dropped} AS dropped FROM {table}"
    )
    clash = db.execute("SELECT min(key) FROM pool SEMI JOIN reference USING (key)").fetchall()
    if clash[0][0] is not None:
        raise ClipshiftError(
            f"the key {clash[0][0]!r} is in the pool and in the reference set; where one of them "
            "is copied (`format`), `columns: {key: unit/key}` in its block keeps them apart"
        )


def _gather(db: duckdb.DuckDBPyConnection, recipe: Seeded, scores: Scores) -> None:
    """Table `pool`, of all that a split draws from; what its recipe refuses is no candidate."""
    if recipe.draws_reference and scores.reference:
        db.execute("INSERT INTO pool BY NAME SELECT * FROM reference")
    samples = parquet([*scores.pool, *scores.reference])
    if refused := recipe.refused(samples):
        reason, condition = refused
        db.execute(f"UPDATE pool SET dropped = ? WHERE dropped IS NULL AND {condition}", [reason])


def _groups_kept(db: duckdb.DuckDBPyConnection, groups: str | None) -> dict[str, int]:
    """How many of the points that a split keeps are of each group of its recipe."""
    if groups is None:
        return {}
    return dict(
        db.execute(
            f"SELECT 'kept_' || name, count(*) {_KEPT} JOIN ({groups}) USING (key) "
            "GROUP BY name ORDER BY name"
        ).fetchall()
    )


def _select_reference(
    db: duckdb.DuckDBPyConnection, recipe: Seeded, scores: Scores, name: str
) -> None:
    """Table `reference_chosen`; its reasons name the reference set."""
    rule = recipe.reference_rule or Full(recipe="full")
    select(db, "reference", rule, scores.reference_margins, None, f"{name} (reference)")
    db.execute(
        "UPDATE reference_chosen SET reason = CASE WHEN kept THEN 'reference' "
        "ELSE 'reference: ' || reason END"
    )


def _size_like(recipe: Seeded, like: Path | None, out: Path) -> int | None:
    """Points to keep, where the recipe is to be as large as another split."""
    if recipe.like is None:
        return None
    if like is None:
        raise ClipshiftError(
            f"{out.stem} is to be as large as {recipe.like}, whose counts is missing"
        )
    return int(read_json(like)["points_kept"])


def _counts(db: duckdb.DuckDBPyConnection, name: str) -> StepCounts:
    came_in, kept = count(db, "FROM split"), count(db, "FROM split WHERE kept")
    step_counts = StepCounts("split", name, came_in, kept)
    dropped = "SELECT reason, count(*) FROM split WHERE NOT kept GROUP BY reason"
    step_counts.rejected.update(dict(db.execute(dropped).fetchall()))
    return step_counts


@step(version=2)
def split(
    recipe: Split, pool: list[str], embedded: list[str], margins: dict[str, list[str]],
    thresholds: dict[str, Path], decisions: list[str], reference: list[Path],
    reference_margins: dict[str, list[str]], like: Path | None, out: Path,
) -> None:  # fmt: skip
    """`make` a split, see `Scores`; its files come as path patterns (`core.brace_ranges`)."""
    pool_margins = {name: _paths(patterns) for name, patterns in margins.items()}
    reference_margin_files = {
        name: _paths(patterns) for name, patterns in reference_margins.items()
    }
    scores = Scores(
        _paths(pool),
        _paths(embedded),
        Margins(pool_margins, thresholds, _paths(decisions)),
        reference,
        Margins(reference_margin_files, thresholds),
        like,
    )
    make(recipe, scores, out)


def _paths(patterns: list[str]) -> list[Path]:
    return [path for pattern in patterns for path in spread(pattern)]
