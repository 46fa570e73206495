"""Recipes of splits as SQL: which of some points are kept, over stored scores.

One function, `select`, serves the pool and the reference set. It never reads embeddings: margins
hold, per point and test set, all that a recipe asks for, and verdicts hold each point's domain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from clipshift.core.database import Paths, count, listed
from clipshift.core.errors import ClipshiftError
from clipshift.study.config.mixes import Mix
from clipshift.study.config.splits import (
    FarRule,
    NearRule,
    Nothing,
    PrunedRule,
    RandRule,
)

# Order in which a sized rule keeps candidates. The ends of one order: near_k and far_(N-k)
# partition the points (unless far combines its sets otherwise), and all are nested in k.
NEAR = "similarity, key"
FAR = {
    "max": "similarity DESC, key DESC",
    # Turns among the sets: the best of each, then the second of each, ...
    "quota": "rank, place",
    "union": "rank, place",
}
RAND = "md5('{seed}:' || key), key"
# What a recipe says of points whose similarity it does not ask for.
EMPTY = (
    "NULL::VARCHAR AS test_set, NULL::VARCHAR AS test_key, NULL::FLOAT AS similarity, "
    "NULL::FLOAT AS threshold, NULL::FLOAT AS margin"
)


@dataclass(frozen=True)
class Margins:
    """Scores of some points: per driving test set their margins and its thresholds.

    Attributes:
        verdicts: tables with `key, verdict`, for splits by domain.
    """

    margins: Mapping[str, Paths]
    thresholds: Mapping[str, Path]
    verdicts: Paths = ()


def select(
    db: duckdb.DuckDBPyConnection,
    points: str,
    rule: Any,
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
    _create_score(db, points, rule, scores)
    candidates = count(db, f"FROM {points} WHERE dropped IS NULL")
    scored = count(db, f"FROM {points} JOIN score USING (key) WHERE dropped IS NULL")
    if scored != candidates:
        what = "verdicts" if isinstance(rule, Mix) else "margins"
        raise ClipshiftError(
            f"{name}: {candidates - scored} of {candidates} points have no {what}; delete the "
            f"{what} of this data set and run again"
        )
    if isinstance(rule, Mix):
        _check_mix(db, points, rule, name)
    db.execute(
        f"""CREATE TABLE {points}_chosen AS
        SELECT key, coalesce(dropped IS NULL AND {_kept(rule, candidates, like, name)}, false)
                AS kept,
            CASE WHEN dropped IS NOT NULL THEN dropped WHEN kept THEN 'kept'
                 ELSE {_reason(rule)} END AS reason,
            test_set, test_key, similarity, threshold, margin
        FROM {points} LEFT JOIN score USING (key)"""
    )
    db.execute("DROP TABLE score")


def _create_score(db: duckdb.DuckDBPyConnection, points: str, rule: Any, scores: Margins) -> None:
    """Table `score`: per point the driving set that decides about it, with its numbers.

    Several sets: the largest similarity (near, far) or the largest margin (pruned) decides; with
    `union` the set where the point ranks first. Equal ones go to the set named first.
    """
    if isinstance(rule, Mix):
        source = f"read_parquet({listed(scores.verdicts)}) WHERE verdict IS NOT NULL"
        db.execute(f"CREATE TABLE score AS SELECT key, verdict, {EMPTY} FROM {source}")
        return
    if not isinstance(rule, NearRule | FarRule | PrunedRule):
        db.execute(f"CREATE TABLE score AS SELECT key, {EMPTY} FROM {points}")
        return
    query = _margins if isinstance(rule, PrunedRule) else _similarities
    parts = [
        f"SELECT *, {place} AS place, '{name}' AS test_set FROM ({query(name, scores)})"
        for place, name in enumerate(rule.sets)
    ]
    combine = rule.combine if isinstance(rule, FarRule) else "max"
    order = "margin DESC, place" if isinstance(rule, PrunedRule) else "similarity DESC, place"
    # Only candidates take a rank.
    source = f"(({' UNION ALL '.join(parts)}) JOIN {points} USING (key))"
    rank = "row_number() OVER (PARTITION BY place, dropped IS NULL ORDER BY similarity DESC, key)"
    if combine == "union":
        source, order = f"(SELECT *, {rank} AS rank FROM {source})", "rank, place"
    source = (
        f"(SELECT * FROM {source} "
        f"QUALIFY row_number() OVER (PARTITION BY key ORDER BY {order}) = 1)"
    )
    if combine == "quota":
        source = f"(SELECT *, {rank} AS rank FROM {source})"
    columns = "key, test_set, test_key, similarity, threshold, margin"
    ranked = ", rank, place" if combine != "max" else ""
    db.execute(f"CREATE TABLE score AS SELECT {columns}{ranked} FROM {source}")


def _similarities(name: str, scores: Margins) -> str:
    return (
        "SELECT key, nearest_test_key AS test_key, max_similarity AS similarity, "
        "NULL::FLOAT AS threshold, NULL::FLOAT AS margin "
        f"FROM read_parquet({listed(scores.margins[name])})"
    )


def _margins(name: str, scores: Margins) -> str:
    return (
        "SELECT m.key, margin_test_key AS test_key, "
        "(t.similarity + m.margin)::FLOAT AS similarity, "
        "t.similarity::FLOAT AS threshold, m.margin "
        f"FROM read_parquet({listed(scores.margins[name])}) m "
        f"JOIN read_parquet('{scores.thresholds[name]}') t ON t.test_key = m.margin_test_key"
    )


def _kept(rule: Any, candidates: int, like: int | None, name: str) -> str:
    """SQL condition that a candidate is kept."""
    if isinstance(rule, Nothing):
        return "false"
    if isinstance(rule, PrunedRule):
        return f"NOT margin > {rule.tolerance!r}"
    if isinstance(rule, Mix):
        return _drawn(rule)
    if not isinstance(rule, RandRule | NearRule | FarRule):
        return "true"
    size = like if like is not None else rule.keep
    if isinstance(size, float):
        size = round(size * candidates)
    if int(size) > candidates:
        raise ClipshiftError(
            f"the split {name} wants to keep {size} points, but the de-duplicated pool has only "
            f"{candidates}; lower `keep`, or give a share of the pool"
        )
    if isinstance(rule, FarRule):
        order = FAR[rule.combine]
    else:
        order = NEAR if isinstance(rule, NearRule) else RAND.format(seed=rule.seed)
    return f"row_number() OVER (PARTITION BY dropped IS NULL ORDER BY {order}) <= {size}"


def _reason(rule: Any) -> str:
    """Why a candidate is not kept, as SQL."""
    if isinstance(rule, Mix):
        return (
            "CASE verdict WHEN 'neither' THEN 'neither natural nor rendition' "
            "WHEN 'both' THEN 'both natural and rendition' ELSE verdict || ', not drawn' END"
        )
    if isinstance(rule, PrunedRule):
        return "'closer than the reference set'"
    return "'no pool points'" if isinstance(rule, Nothing) else f"'{rule.recipe}-pruned'"


def _drawn(rule: Mix) -> str:
    """SQL condition that a candidate is drawn: within its domain, or among all."""
    natural, rendition = rule.parts
    group, limit = "dropped IS NULL", str(rule.random)
    if not rule.random:
        group += ", verdict"
        limit = (
            f"CASE verdict WHEN 'natural' THEN {natural} WHEN 'rendition' THEN {rendition} "
            "ELSE 0 END"
        )
    order = RAND.format(seed=rule.seed)
    return f"row_number() OVER (PARTITION BY {group} ORDER BY {order}) <= {limit}"


def _check_mix(db: duckdb.DuckDBPyConnection, points: str, rule: Mix, name: str) -> None:
    natural, rendition = rule.parts
    for what, wanted, where in (
        ("natural points", natural, "AND verdict = 'natural'"),
        ("renditions", rendition, "AND verdict = 'rendition'"),
        ("points", rule.random, ""),
    ):
        there = count(db, f"FROM {points} JOIN score USING (key) WHERE dropped IS NULL {where}")
        if wanted > there:
            raise ClipshiftError(
                f"the split {name} wants {wanted} {what}, but there are only {there} after "
                "de-duplication; lower its numbers, or the detectors' `precision`"
            )
