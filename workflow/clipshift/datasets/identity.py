"""Joins of two data about the same samples: by one thing that both know, checked by the others.

What may be known of a sample: `key`, `uid`, `url`, `sha256` and `md5` of its image, `caption`. What
is not joined by is a witness. Both sides are brought into one form before anything is compared.

A row with several partners takes the one that its witnesses speak for; where they do not decide, it
is ambiguous and has none. A row whose only partner a witness contradicts has none, either; but a
URL or a hash of the image names one image, whatever captions it has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.database import count, database, identifier
from clipshift.core.errors import ClipshiftError

KINDS = ("key", "uid", "url", "sha256", "md5", "caption")
HASHES = ("sha256", "md5")
# What names an image: captions may differ then.
OF_IMAGES = ("url", "sha256", "md5", "uid")
# Of the rows where a witness can be asked, the share that it must confirm.
AGREE = 0.9
_URL = re.compile(r"\s*https?://", re.IGNORECASE)
_BLANKS = r"'^[\s\p{Z}]+|[\s\p{Z}]+$', '', 'g'"


def is_url(text: str) -> bool:
    """
    >>> is_url(" HTTPS://a/b.jpg"), is_url("url")
    (True, False)
    """
    return bool(_URL.match(text))


def urls_of(samples: pa.Table) -> pa.Array:
    """The URLs of a sample table; null where an image has another origin."""
    places = samples["locator"].combine_chunks()
    return pc.if_else(pc.match_substring_regex(places, r"(?i)^\s*https?://"), places, None)


def form(kind: str, column: str) -> str:
    """SQL: the one form of a value in which two data are compared; null where there is none.

    Blanks at the ends of URLs and captions, the case of hex digits and Unicode's two spellings of
    an accent say nothing of the sample.
    """
    text = f"{column}::VARCHAR"
    if kind != "key":
        text = f"regexp_replace({text}, {_BLANKS})"
    if kind == "caption":
        text = f"nfc_normalize({text})"
    if kind in ("uid", *HASHES):
        text = f"lower({text})"
    return f"nullif({text}, '')"


def digest(kind: str, column: str) -> str:
    """SQL: `form` as a number of 64 bits, where a witness is stored for many rows."""
    return f"md5_number_upper({form(kind, column)})"


@dataclass(frozen=True)
class Joined:
    """What a join found; `counts` is for people.

    Attributes:
        partner: (N,) int64, row of the right side for each of the left; -1: none.
        reasons: why rows have none, and how many: they and the matched ones are all N.
        agree: witness -> rows that it confirms, and rows that it contradicts.
    """

    partner: np.ndarray
    reasons: dict[str, int]
    agree: dict[str, tuple[int, int]]
    right: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        shares = {
            name: {"agree": yes, "differ": no, "share": round(yes / (yes + no), 4)}
            for name, (yes, no) in self.agree.items()
            if yes + no
        }
        matched = int((self.partner >= 0).sum())
        return {"matched": matched, **self.reasons, "witnesses": shares, "other_side": self.right}


def join(
    left: pa.Table, right: pa.Table, by: str, where: str, share: float = AGREE,
    digests: Sequence[str] = (),
) -> Joined:  # fmt: skip
    """Find the row of `right` for each row of `left`.

    Args:
        left, right: columns of some of KINDS; others are not looked at.
        by: what both are joined by; a row without it has no partner.
        where: begins an error: the file of `right`, say.
        share: see `check`; 0 asks no witness.
        digests: columns of `right` that hold `digest` instead of the value.

    Raises:
        ClipshiftError: a witness confirms too few rows.
    """
    witnesses = [
        k
        for k in KINDS
        if k != by and share and {k} <= {*left.column_names} & {*right.column_names}
    ]
    with database() as db:
        for side, table in (("left_given", left), ("right_given", right)):
            known = table.select([by, *witnesses])
            db.register(side, known.append_column("row", pa.array(np.arange(len(table)))))
            made = {"left_given": (), "right_given": digests}[side]
            columns = [f"{form(by, identifier(by))} AS joined"]
            columns += [
                identifier(w) if w in made else f"{digest(w, identifier(w))} AS {w}"
                for w in witnesses
            ]
            name = side.removesuffix("_given")
            db.execute(f"CREATE TABLE {name}_rows AS SELECT row, {', '.join(columns)} FROM {side}")
        return _join(db, len(left), by, witnesses, where, share)


def _join(
    db: duckdb.DuckDBPyConnection, rows: int, by: str, witnesses: list[str], where: str,
    share: float,
) -> Joined:  # fmt: skip
    asked = "".join(f", l.{w} = r.{w} AS {w}" for w in witnesses)
    db.execute(
        f"CREATE TABLE pairs AS SELECT l.row AS mine, r.row AS theirs{asked} "
        "FROM left_rows l JOIN right_rows r USING (joined)"
    )
    asked_of = _comparable(db, witnesses)
    strong = [w for w in asked_of if not (w == "caption" and by in OF_IMAGES)]
    speaks = " + ".join(f"coalesce({w}::INTEGER, 0)" for w in asked_of) or "0"
    against = " + ".join(f"coalesce((NOT {w})::INTEGER, 0)" for w in strong) or "0"
    db.execute(
        f"""CREATE TABLE best AS SELECT *, count(*) OVER (PARTITION BY mine) AS equals FROM (
            SELECT *, {against} AS against, {speaks} AS speaks FROM pairs
            QUALIFY rank() OVER (PARTITION BY mine ORDER BY {against}, {speaks} DESC) = 1)"""
    )
    agree = {
        w: (count(db, f"FROM best WHERE equals = 1 AND {w}"),
            count(db, f"FROM best WHERE equals = 1 AND NOT {w}"))
        for w in asked_of
    }  # fmt: skip
    for witness, (yes, no) in agree.items():
        check(witness, yes, no, by, where, share)
    partner = np.full(rows, -1)
    chosen = db.execute(
        "SELECT mine, theirs FROM best WHERE equals = 1 AND against = 0"
    ).fetchnumpy()
    partner[chosen["mine"]] = chosen["theirs"]
    reasons = {
        f"no {by}": count(db, "FROM left_rows WHERE joined IS NULL"),
        f"{by} is not there": count(
            db, "FROM left_rows WHERE joined IS NOT NULL AND row NOT IN (SELECT mine FROM best)"
        ),
        f"{by} is there several times": count(
            db, "FROM best WHERE equals > 1", "count(DISTINCT mine)"
        ),
        f"{by} is there with another {' or '.join(strong)}": count(
            db, "FROM best WHERE equals = 1 AND against > 0"
        ),
    }
    there = "FROM right_rows WHERE joined IS NOT NULL"
    right = {
        "rows": count(db, "FROM right_rows"),
        f"no {by}": count(db, "FROM right_rows WHERE joined IS NULL"),
        "repeats": count(db, there) - count(db, there, "count(DISTINCT joined)"),
        "strangers": count(db, f"{there} AND joined NOT IN (SELECT joined FROM left_rows "
                               "WHERE joined IS NOT NULL)"),
    }  # fmt: skip
    return Joined(partner, {k: v for k, v in reasons.items() if v}, agree, right)


def _comparable(db: duckdb.DuckDBPyConnection, witnesses: list[str]) -> list[str]:
    """Witnesses without hashes that never agree where another does: they are of other bytes."""
    agree = {w: count(db, f"FROM pairs WHERE {w}") for w in witnesses}
    return [w for w in witnesses if w not in HASHES or agree[w] or not any(agree.values())]


def check(witness: str, agree: int, differ: int, by: str, where: str, share: float = AGREE) -> None:
    """Refuse a join by what a witness says of its rows.

    One of a few rows may differ: of n, at least the whole part of n times `share` must agree.

    Raises:
        ClipshiftError: none agrees, or too few.
    """
    asked = agree + differ
    if asked and share and (not agree or agree < int(asked * share)):
        raise ClipshiftError(
            f"{where}: of {asked:,} rows joined by {by}, only {agree:,} have the same {witness} on "
            f"both sides ({agree / asked:.1%}, at least {share:.0%} are expected): they are not of "
            f"the same samples. Join by another column, or lower `agree` (0 asks no witness)"
        )
