"""The images of a split that a corpus can use: what a controlled training reads.

The table holds the split's rows with the corpus's: `key, kept, reason, caption, labels`, in the
order of keys. Kept is what the split keeps and the corpus can use, less what no training reads (see
`clipshift.splits.guard`). As a split, so that open_clip's trainer reads it.
"""

from pathlib import Path

from clipshift.core.counts import StepCounts
from clipshift.core.database import count, database, literal, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import Files, atomic_path, write_json
from clipshift.core.step import step
from clipshift.splits.guard import REASON, left_out


@step(version=2)
def choose(split: Path, guard: Path | None, corpora: Files, out: Path) -> None:
    """Write the chosen images of a split and their counts.

    Args:
        guard: the list of test images in the split, where trainings leave them out.
        corpora: tables of the shards.

    Raises:
        ClipshiftError: a point of the split is in no corpus, or nothing is left.
    """
    seen = left_out(guard)
    with database() as db:
        db.execute(
            "CREATE TABLE guarded AS SELECT unnest($1::VARCHAR[]) AS key, "
            "unnest($2::VARCHAR[]) AS test_set",
            [list(seen), list(seen.values())],
        )
        db.execute(
            f"""CREATE TABLE chosen AS
            SELECT s.key, s.kept AND c.key IS NOT NULL AND c.reason IS NULL AND g.key IS NULL
                AS kept,
                CASE WHEN s.kept AND c.reason IS NOT NULL THEN c.reason
                     WHEN s.kept AND g.key IS NOT NULL THEN '{REASON}' || g.test_set
                     ELSE s.reason END AS reason,
                c.caption, c.labels, s.kept AND c.key IS NULL AS lost
            FROM {parquet([split])} s
            LEFT JOIN {parquet(corpora)} c USING (key)
            LEFT JOIN guarded g USING (key)"""
        )
        if lost := count(db, "FROM chosen WHERE lost"):
            raise ClipshiftError(
                f"{split} keeps {lost} points that its corpus does not know; delete the corpus's "
                "folder in results/corpora and run again"
            )
        step_counts = StepCounts("choice", out.stem, count(db, "FROM chosen"))
        step_counts.went_out = count(db, "FROM chosen WHERE kept")
        query = "SELECT reason, count(*) FROM chosen WHERE NOT kept GROUP BY reason"
        step_counts.rejected.update(dict(db.execute(query).fetchall()))
        if not step_counts.went_out:
            raise ClipshiftError(
                f"{out.stem}: the corpus can use none of the split's images: "
                f"{dict(step_counts.rejected)}"
            )
        with atomic_path(out) as part:
            rows = "(SELECT * EXCLUDE (lost) FROM chosen ORDER BY key)"
            db.execute(f"COPY {rows} TO {literal(part)} (FORMAT parquet, COMPRESSION zstd)")
    write_json(out.with_suffix(".json"), step_counts.as_json())
