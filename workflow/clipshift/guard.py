"""Test images among the samples of a split, by their bytes, and which of them no training reads.

`python -m clipshift.guard --split FILE --test NAME=TABLE... --rule drop|keep --out FILE` writes
`key, sha256, test_set, dropped`, a row per kept sample and test set that shows the same bytes, in
the order of keys, and an account. The test sets are those that were there when the split's list
was made: one that comes later changes no list and no training, and its evaluation says what of it
the model was trained on.
"""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import duckdb

from clipshift.database import count, database, listed
from clipshift.errors import run
from clipshift.files import atomic_path, named_paths, read_parquet, write_json
from clipshift.ledger import Ledger

REASON = "same bytes as an image of the test set "


def write_list(split: Path, tests: Mapping[str, Path], drop: bool, out: Path) -> Ledger:
    """Write the list of a split and its account.

    Args:
        tests: test set -> its sample table.
        drop: whether trainings leave the samples out, or only count them.
    """
    kept = f"(FROM read_parquet({listed([split])}) WHERE kept)"
    with database() as db:
        _tests(db, tests)
        db.execute(
            "CREATE TABLE found AS SELECT DISTINCT "
            f"s.key, s.sha256, t.test_set, {drop} AS dropped, place "
            f"FROM {kept} s JOIN tests t USING (sha256)"
        )
        ledger = Ledger("training list", out.stem, came_in=count(db, f"FROM {kept}"))
        # A sample that several sets show is counted for the first of them.
        first = "SELECT min_by(test_set, place) FROM found WHERE dropped GROUP BY key"
        ledger.rejected.update(REASON + name for (name,) in db.execute(first).fetchall())
        ledger.went_out = ledger.came_in - sum(ledger.rejected.values())
        sets = dict(db.execute("SELECT test_set, count(*) FROM found GROUP BY test_set").fetchall())
        with atomic_path(out) as part:
            ordered = "(SELECT * EXCLUDE (place) FROM found ORDER BY key, place)"
            db.execute(f"COPY {ordered} TO '{part}' (FORMAT parquet, COMPRESSION zstd)")
    found = {name: sets.get(name, 0) for name in tests}
    write_json(out.with_suffix(".json"), ledger.as_json() | {"samples_of_test_sets": found})
    return ledger


def _tests(db: duckdb.DuckDBPyConnection, tests: Mapping[str, Path]) -> None:
    """Table `tests`: the images of all test sets, which are few beside a pool's."""
    db.execute("CREATE TABLE tests (key VARCHAR, sha256 VARCHAR, test_set VARCHAR, place INTEGER)")
    for place, (name, table) in enumerate(tests.items()):
        rows = f"SELECT key, sha256, $1, {place} FROM read_parquet({listed([table])})"
        db.execute(f"INSERT INTO tests {rows}", [name])


def left_out(file: Path | None) -> dict[str, str]:
    """The samples that trainings leave out: key -> the first test set that shows it."""
    if file is None:
        return {}
    table = read_parquet(file, ["key", "test_set", "dropped"])
    table = table.filter(table["dropped"])
    pairs = zip(table["key"].to_pylist(), table["test_set"].to_pylist(), strict=True)
    return dict(reversed(list(pairs)))


def trained_on(
    split: Path, chosen: Path | None, without: Sequence[Collection[str]], tests: Mapping[str, Path]
) -> dict[str, set[str]]:
    """Per test set the keys of its images whose bytes some runs of a split were trained on.

    Args:
        chosen: the part of the split that a corpus could use, where there is one.
        without: per run the samples that its training left out.
        tests: test set -> its sample table.
    """
    kept = f"SELECT key, sha256 FROM read_parquet({listed([split])}) WHERE kept"
    if chosen:
        kept += f" AND key IN (SELECT key FROM read_parquet({listed([chosen])}) WHERE kept)"
    # What any of the runs read: all but what every run left out.
    nowhere = set.intersection(*map(set, without))
    seen: dict[str, set[str]] = {name: set() for name in tests}
    with database() as db:
        _tests(db, tests)
        db.execute("CREATE TABLE nowhere AS SELECT unnest($1::VARCHAR[]) AS key", [sorted(nowhere)])
        rows = (
            f"SELECT DISTINCT t.test_set, t.key FROM ({kept}) s JOIN tests t USING (sha256) "
            "WHERE s.key NOT IN (FROM nowhere)"
        )
        for name, key in db.execute(rows).fetchall():
            seen[name].add(key)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--test", action="append", default=[], metavar="NAME=TABLE")
    parser.add_argument("--rule", choices=("drop", "keep"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tests = {name: table for name, (table,) in named_paths(args.test).items()}
    ledger = write_list(args.split, tests, args.rule == "drop", args.out)
    print(json.dumps(ledger.as_json(), indent=2))


if __name__ == "__main__":
    run(main)
