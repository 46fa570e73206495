"""Recipes of splits, one a module: a block of the configuration, and its SQL over stored scores.

One function, `select`, serves the pool and the reference set. It never reads embeddings: margins
hold, per point and test set, all that a recipe asks for, and decisions hold each point's domain.
What a recipe answers is in `clipshift.study.config.recipe_base`; docs/extending.md adds one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.recipe_base import Candidates, Keep, Margins, Rule

if TYPE_CHECKING:
    import duckdb

# Columns of every table of scores: the driving set that decides about a point, with its numbers.
COLUMNS = "test_set, test_key, similarity, threshold, margin"
# The same of points whose similarity a recipe does not ask for.
EMPTY = (
    "NULL::VARCHAR AS test_set, NULL::VARCHAR AS test_key, NULL::DOUBLE AS similarity, "
    "NULL::DOUBLE AS threshold, NULL::DOUBLE AS margin"
)
DRIVING = "Driving test sets (the largest similarity counts)."
KEEP = "As for `rand`."
SELECTS = "Selects this recipe."


def select(
    db: "duckdb.DuckDBPyConnection",
    points: str,
    rule: Rule,
    scores: Margins,
    like: int | None,
    name: str,
) -> None:
    """Create the table `{points}_chosen` from the table `points`.

    Args:
        points: a table with `key` and `dropped`: why a point is no candidate, or null.
        like: points to keep, where the rule names another split as its size.
        name: the split, for messages.

    `{points}_chosen` has one row per point: `key, kept, reason, test_set, test_key, similarity,
    threshold, margin`.

    Raises:
        ClipshiftError: a candidate has no score, or there are fewer candidates than wanted.
    """
    from clipshift.core.database import count

    query = rule.score(points, scores) or f"SELECT key, {EMPTY} FROM {points}"
    db.execute(f"CREATE TABLE score AS {query}")
    number = count(db, f"FROM {points} WHERE dropped IS NULL")
    scored = f"FROM {points} JOIN score USING (key) WHERE dropped IS NULL"
    if (available := count(db, scored)) != number:
        scores_name = "decisions" if rule.by_domain else "margins"
        raise ClipshiftError(
            f"{name}: {number - available} of {number} points have no {scores_name}; delete the "
            f"{scores_name} of this data set and run again"
        )
    candidates = Candidates(name, number, like, lambda where: count(db, f"{scored} AND {where}"))
    db.execute(
        f"""CREATE TABLE {points}_chosen AS
        SELECT key, coalesce(dropped IS NULL AND {rule.kept(candidates)}, false) AS kept,
            CASE WHEN dropped IS NOT NULL THEN dropped WHEN kept THEN 'kept'
                 ELSE {rule.reason()} END AS reason,
            {COLUMNS}
        FROM {points} LEFT JOIN score USING (key)"""
    )
    db.execute("DROP TABLE score")


def first(order: str, keep: Keep, candidates: Candidates) -> str:
    """SQL condition that a candidate is among the first of an order.

    Raises:
        ClipshiftError: there are fewer candidates than that.
    """
    size: int | float | str = keep if candidates.like is None else candidates.like
    if isinstance(size, float):
        size = round(size * candidates.number)
    if int(size) > candidates.number:
        raise ClipshiftError(
            f"the split {candidates.split} wants to keep {size} points, but the de-duplicated pool "
            f"has only {candidates.number}; lower `keep`, or give a share of the pool"
        )
    # Partitioned, so that candidates are ranked among themselves.
    return f"row_number() OVER (PARTITION BY dropped IS NULL ORDER BY {order}) <= {size}"


def shuffled(seed: int) -> str:
    """A random order of points: by a hash of their keys."""
    # No random(): the order must not depend on DuckDB's version, threads or row order.
    return f"md5('{seed}:' || key), key"


def by_set(
    query: Callable[[str, Margins], str], sets: Sequence[str], points: str, scores: Margins
) -> str:
    """SQL source: `query` of each set for some points; `place` is that of a set among `sets`."""
    parts = [
        f"SELECT *, {place} AS place, '{name}' AS test_set FROM ({query(name, scores)})"
        for place, name in enumerate(sets)
    ]
    return f"(({' UNION ALL '.join(parts)}) JOIN {points} USING (key))"


def deciding(source: str, order: str) -> str:
    """SQL source: of each point the row of the set that comes first in an order."""
    rank = f"row_number() OVER (PARTITION BY key ORDER BY {order})"
    return f"(SELECT * FROM {source} QUALIFY {rank} = 1)"


def similarities(name: str, scores: Margins) -> str:
    """SQL: the similarity of points to a test set."""
    return (
        "SELECT key, nearest_test_key AS test_key, max_similarity AS similarity, "
        "NULL::DOUBLE AS threshold, NULL::DOUBLE AS margin "
        f"FROM {parquet(scores.margins[name])}"
    )


def parquet(files: Sequence[Path]) -> str:
    """SQL source: some parquet files."""
    from clipshift.core.database import parquet as source

    return source(files)
