"""Write one shard of a pool, and the manifest over all its shards.

`python -m clipshift.datasets.pool shard ...` and `python -m clipshift.datasets.pool manifest ...`. A sample's shard
follows from its key alone, so a new item changes one shard and no other.
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipshift.core.counts import Ledger
from clipshift.core.database import database
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_json, write_json
from clipshift.datasets.select import (
    Selection,
    add_arguments,
    copy_samples,
    read_arguments,
    read_sources,
    seeded_order,
    select,
)
from clipshift.datasets.shards import shard_entry, write_table, write_tar
from clipshift.study.config.data import Pool


def shard_of(key: str, shards: int) -> int:
    """The shard of a key: uniform, and independent of every other key."""
    return seeded_order(0, key) % shards


def write_shard(
    shard: int, shards: int, selection: Selection, folders: Mapping[str, Path], tar: Path
) -> Ledger:
    """Write one shard of the selection of a whole pool, its table and its account."""
    ledger = Ledger("pool", tar.stem)
    rows = [r for r in selection.rows if shard_of(r["key"], shards) == shard]
    reasons = [why for key, why in selection.rejected.items() if shard_of(key, shards) == shard]
    ledger.rejected = Counter(reasons)
    ledger.came_in = len(rows) + len(reasons)
    ledger.went_out = write_tar(tar, copy_samples(rows, folders))
    write_table(tar.with_suffix(".parquet"), rows)
    entry = {"account": ledger.as_json(), "shard": shard_entry(tar, ledger.went_out)}
    write_json(tar.with_suffix(".json"), entry)
    return ledger


def sum_shards(accounts: Sequence[Path], name: str) -> dict[str, object]:
    """Sum the shards' accounts; keys must be unique over the whole pool."""
    entries = [read_json(path) for path in accounts]
    ledger = Ledger("pool", name)
    for entry in entries:
        ledger.add(Ledger.from_json(entry["account"]))
    tables = [str(path.with_suffix(".parquet")) for path in accounts]
    with database() as db:
        twice = db.execute(
            "SELECT key, max(filename) FROM read_parquet($1, filename = true) "
            "GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1",
            [tables],
        ).fetchone()
    if twice:
        tar = Path(twice[1]).with_suffix(".tar")
        raise ClipshiftError(f"{tar}: the key {twice[0]!r} occurs twice")
    return {"account": ledger.as_json(), "shards": [entry["shard"] for entry in entries]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("shard")
    one.add_argument("--pool", required=True, help="JSON of the pool block")
    one.add_argument("--shard", type=int, required=True)
    one.add_argument("--out", type=Path, required=True, help="the tar")
    add_arguments(one)
    whole = commands.add_parser("manifest")
    whole.add_argument("--name", required=True)
    whole.add_argument("--out", type=Path, required=True)
    whole.add_argument("accounts", type=Path, nargs="+")
    args = parser.parse_args()
    if args.command == "manifest":
        write_json(args.out, sum_shards(args.accounts, args.name))
        return
    pool = Pool.model_validate_json(args.pool)
    classes, holdout, folders = read_arguments(args)
    selection = select(read_sources(folders), pool.take, classes, holdout)
    ledger = write_shard(args.shard, pool.shards, selection, folders, args.out)
    print(json.dumps(ledger.as_json(), indent=2))


if __name__ == "__main__":
    run(main)
