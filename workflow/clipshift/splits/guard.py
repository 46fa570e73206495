"""Test images among the samples of a split, by their bytes.

The list holds `key, sha256, test_set` in the order of keys: a row per kept sample and test set that
shows the same bytes. The json beside it holds the counts. Trainings leave these samples out, or not
(`test_images`). The test sets are those that were there when the list was made: one that comes
later changes no list and no training, and its evaluation says what of it the model was trained on.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import duckdb

from clipshift.core.database import count, database, literal, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic_path, read_json, read_parquet, sha256_file, write_json
from clipshift.core.step import step

REASON = "same bytes as an image of the test set "


@step(version=1)
def write_list(split: Path, tests: dict[str, Path], out: Path) -> None:
    """Write the list of a split and its counts.

    Args:
        tests: test set -> its sample table.

    Raises:
        ClipshiftError: a table is not there (the set is being made again at this moment).
    """
    if gone := [str(table) for table in tests.values() if not table.exists()]:
        raise ClipshiftError(f"{gone[0]} is not there; run again when the test set is made")
    kept = f"(FROM {parquet([split])} WHERE kept)"
    with database() as db:
        _tests(db, tests)
        db.execute(
            "CREATE TABLE found AS SELECT DISTINCT s.key, s.sha256, t.test_set, place "
            f"FROM {kept} s JOIN tests t USING (sha256)"
        )
        samples = count(db, f"FROM {kept}")
        query = "SELECT test_set, count(*) FROM found GROUP BY test_set"
        sets = dict(db.execute(query).fetchall())
        with atomic_path(out) as part:
            ordered = "(SELECT * EXCLUDE (place) FROM found ORDER BY key, place)"
            db.execute(f"COPY {ordered} TO {literal(part)} (FORMAT parquet, COMPRESSION zstd)")
    counts = {name: sets.get(name, 0) for name in tests}
    tables = {name: sha256_file(table) for name, table in tests.items()}
    step_counts = {"samples": samples, "of_test_sets": counts, "tables": tables}
    write_json(out.with_suffix(".json"), step_counts)


def _tests(db: duckdb.DuckDBPyConnection, tests: Mapping[str, Path]) -> None:
    """Table `tests`: the images of all test sets, which are few beside a pool's."""
    db.execute("CREATE TABLE tests (key VARCHAR, sha256 VARCHAR, test_set VARCHAR, place INTEGER)")
    for place, (name, table) in enumerate(tests.items()):
        rows = f"SELECT key, sha256, $1, {place} FROM {parquet([table])}"
        db.execute(f"INSERT INTO tests {rows}", [name])


def left_out(file: Path | None) -> dict[str, str]:
    """The samples of a list: key -> the first test set that shows it."""
    if file is None:
        return {}
    table = read_parquet(file, ["key", "test_set"])
    pairs = zip(table["key"].to_pylist(), table["test_set"].to_pylist(), strict=True)
    # Reversed, since of equal keys a dict keeps the last.
    return dict(reversed(list(pairs)))


def trained_on(
    split: Path, chosen: Path | None, without: Sequence[Collection[str]], tests: Mapping[str, Path],
    guard: Path | None = None,
) -> dict[str, set[str]]:  # fmt: skip
    """Per test set the keys of its images whose bytes some runs of a split were trained on.

    Args:
        chosen: the part of the split that a corpus could use, where there is one.
        without: per run the samples that its training left out.
        tests: test set -> its sample table.
        guard: the list of the split, if it is there: it has been through the split already, so
            only sets that it does not know, or that changed since, are looked for again.
    """
    known = _known(guard, tests)
    others = {name: table for name, table in tests.items() if name not in known}
    # What any of the runs read: all but what every run left out.
    nowhere = set.intersection(*map(set, without))
    seen: dict[str, set[str]] = {name: set() for name in tests}
    with database() as db:
        _tests(db, tests)
        db.execute("CREATE TABLE nowhere AS SELECT unnest($1::VARCHAR[]) AS key", [sorted(nowhere)])
        db.execute("CREATE TABLE kept (key VARCHAR, sha256 VARCHAR, test_set VARCHAR)")
        if guard and known:
            db.execute(
                "INSERT INTO kept SELECT key, sha256, test_set "
                f"FROM {parquet([guard])} WHERE list_contains($1, test_set)",
                [sorted(known)],
            )
        if others:
            db.execute(
                "INSERT INTO kept SELECT s.key, s.sha256, t.test_set "
                f"FROM {parquet([split])} s JOIN "
                "(SELECT DISTINCT sha256, test_set FROM tests WHERE list_contains($1, test_set)) t "
                "USING (sha256) WHERE s.kept",
                [sorted(others)],
            )
        read = "FROM kept WHERE key NOT IN (FROM nowhere)"
        if chosen:
            read += f" AND key IN (SELECT key FROM {parquet([chosen])} WHERE kept)"
        rows = f"SELECT DISTINCT t.test_set, t.key FROM (SELECT * {read}) k "
        rows += "JOIN tests t ON k.sha256 = t.sha256 AND k.test_set = t.test_set"
        for name, key in db.execute(rows).fetchall():
            seen[name].add(key)
    return seen


def _known(guard: Path | None, tests: Mapping[str, Path]) -> set[str]:
    """The test sets that a list was made with, as they are now."""
    if guard is None or not (guard.exists() and guard.with_suffix(".json").exists()):
        return set()
    tables = read_json(guard.with_suffix(".json")).get("tables", {})
    return {name for name, table in tests.items() if tables.get(name) == sha256_file(table)}
