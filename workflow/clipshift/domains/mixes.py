"""Make one split by domain: so many natural points, so many renditions, or any.

`python -m clipshift.domains.mixes --recipe JSON --pool FILE... --embedded FILE... --verdicts
FILE... [--reference FILE] --out FILE` writes what every split writes (`clipshift.splits`). It is a
query over stored verdicts; points are drawn in the order of a seeded hash of their keys.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import duckdb

from clipshift.config.mixes import Mix
from clipshift.database import database
from clipshift.errors import ClipshiftError, run
from clipshift.ledger import Ledger
from clipshift.ranges import spread
from clipshift.recipes import RAND, count, listed
from clipshift.splits import create_pool, write

# Columns of a split that say nothing here.
EMPTY = (
    "NULL::VARCHAR AS test_set, NULL::VARCHAR AS nearest_test_key, NULL::FLOAT AS similarity, "
    "NULL::FLOAT AS threshold, NULL::FLOAT AS margin"
)


def make(
    recipe: Mix, pool: Sequence[Path], embedded: Sequence[Path], verdicts: Sequence[Path],
    reference: Sequence[Path], out: Path,
) -> Ledger:  # fmt: skip
    """Write `out`, its account and its exports.

    Args:
        pool, embedded: as for every split.
        verdicts: tables with `key, verdict` of all candidates.
        reference: sample tables of the reference set, where its points may be drawn.

    Raises:
        ClipshiftError: a candidate has no verdict, or there are fewer than wanted.
    """
    with database() as db:
        create_pool(db, pool, embedded)
        db.execute("CREATE TABLE points AS SELECT key, url_hash, sha256, shard, dropped FROM pool")
        if reference:
            db.execute(
                "INSERT INTO points SELECT key, url_hash, sha256, NULL, CASE WHEN key NOT IN "
                f"(SELECT key FROM read_parquet({listed(verdicts)})) THEN 'not embedded' END "
                f"FROM read_parquet({listed(reference)})"
            )
        twice = db.execute(
            "SELECT key FROM points GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
        ).fetchone()
        if twice:
            raise ClipshiftError(f"the key {twice[0]!r} is in the pool and in the reference set")
        db.execute(
            "CREATE TABLE candidates AS SELECT p.*, v.verdict FROM points p LEFT JOIN "
            f"(SELECT key, verdict FROM read_parquet({listed(verdicts)})) v USING (key)"
        )
        if recipe.classes is not None:
            _drop_other_classes(db, recipe.classes, [*pool, *reference])
        _check(db, recipe, out.stem)
        order = RAND.format(seed=recipe.seed)
        db.execute(
            f"""CREATE TABLE split AS
            SELECT key, url_hash, sha256, kept,
                CASE WHEN dropped IS NOT NULL THEN dropped WHEN kept THEN 'kept'
                     WHEN verdict = 'neither' THEN 'neither natural nor rendition'
                     WHEN verdict = 'both' THEN 'both natural and rendition'
                     ELSE verdict || ', not drawn' END AS reason,
                {EMPTY}, shard
            FROM (SELECT *, dropped IS NULL AND row_number() OVER
                    (PARTITION BY {_group(recipe)} ORDER BY {order}) <= {_limit(recipe)} AS kept
                  FROM candidates)"""
        )
        account = {
            "candidates": count(db, "FROM candidates WHERE dropped IS NULL"),
            "points_kept": count(db, "FROM split WHERE kept"),
            "reference_kept": count(db, "FROM split WHERE kept AND shard IS NULL"),
        }
        kept = (
            "SELECT verdict, count(*) FROM candidates SEMI JOIN (SELECT key FROM split WHERE kept)"
        )
        domains = dict(
            db.execute(f"{kept} USING (key) GROUP BY verdict ORDER BY verdict").fetchall()
        )
        account |= {f"kept_{verdict}": n for verdict, n in domains.items()}
        return write(db, account, out)


def _drop_other_classes(
    db: duckdb.DuckDBPyConnection, classes: Sequence[str], tables: Sequence[Path]
) -> None:
    """Points of other classes, or of none, are no candidates."""
    mine = f"SELECT key FROM read_parquet({listed(tables)}) WHERE list_contains(?, class_name)"
    db.execute(
        "UPDATE candidates SET dropped = 'class is not asked for' "
        f"WHERE dropped IS NULL AND key NOT IN ({mine})",
        [list(classes)],
    )


def _group(recipe: Mix) -> str:
    """Within what the order of points counts."""
    return "dropped IS NULL" + ("" if recipe.random else ", verdict")


def _limit(recipe: Mix) -> str:
    """How many points of a group are drawn."""
    if recipe.random:
        return str(recipe.random)
    natural, rendition = recipe.parts
    return (
        f"CASE verdict WHEN 'natural' THEN {natural} WHEN 'rendition' THEN {rendition} ELSE 0 END"
    )


def _check(db: duckdb.DuckDBPyConnection, recipe: Mix, name: str) -> None:
    lost = count(db, "FROM candidates WHERE dropped IS NULL AND verdict IS NULL")
    if lost:
        raise ClipshiftError(
            f"{name}: {lost} points have no verdict; delete the verdicts of this data and run again"
        )
    natural, rendition = recipe.parts
    for what, wanted, where in (
        ("natural points", natural, "AND verdict = 'natural'"),
        ("renditions", rendition, "AND verdict = 'rendition'"),
        ("points", recipe.random, ""),
    ):
        there = count(db, f"FROM candidates WHERE dropped IS NULL {where}")
        if wanted > there:
            raise ClipshiftError(
                f"the split {name} wants {wanted} {what}, but there are only {there} after "
                "de-duplication; lower its numbers, or the detectors' `precision`"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True, help="JSON of the split block")
    parser.add_argument("--pool", nargs="+", required=True, help="sample tables")
    parser.add_argument("--embedded", nargs="+", required=True, help="as for clipshift.splits")
    parser.add_argument("--verdicts", nargs="+", required=True)
    parser.add_argument("--reference", type=Path, nargs="*", default=[], help="sample tables")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    recipe = Mix.model_validate_json(args.recipe)
    pool, embedded, verdicts = (
        [path for word in words for path in spread(word)]
        for words in (args.pool, args.embedded, args.verdicts)
    )
    ledger = make(recipe, pool, embedded, verdicts, args.reference, args.out)
    print(json.dumps(ledger.as_json(), indent=2))


if __name__ == "__main__":
    run(main)
