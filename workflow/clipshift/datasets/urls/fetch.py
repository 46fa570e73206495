"""Download the URLs of one shard with img2dataset, and say what became of each.

The table has one row per URL: `key, url, reason` (null: there is an image), `message`
(img2dataset's), `sha256` (of the bytes that the server sent), `attempt`, `number` (its sample
there).

Images and answers stay in the work folder, which no rule declares. Each start is one attempt at
what has no image yet, in a folder of its own; an attempt that a kill ended is continued first. So
the step run again (`--forcerun fetch_urls`) asks only for what failed.
"""

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_parquet, write_json, write_parquet
from clipshift.core.processes import run_bound
from clipshift.core.step import PACKAGE, ROOT, step
from clipshift.datasets.urls.fetcher import stats
from clipshift.datasets.urls.listing import read_shard
from clipshift.datasets.urls.paths import attempt_folder, attempt_folders
from clipshift.datasets.urls.reasons import reason
from clipshift.study.config.urls import Fetching

LOG = logging.getLogger(__name__)

# Environment variable that names the Python of img2dataset's environment.
PYTHON = "CLIPSHIFT_IMG2DATASET"
# Says in an attempt's list how large its blocks are, whatever the configuration says later.
BLOCK = "clipshift.block"
TODO = "todo.parquet"
NO_ANSWER = "img2dataset lost it"
OUTCOME = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("sha256", pa.string()),
        ("attempt", pa.int32()),
        ("number", pa.string()),
    ]
)


@step(version=1)
def fetch(urls: Path, shard: int, fetching: Fetching, work: Path, out: Path) -> None:
    """Attempt what has no image yet, and write what became of every URL of a shard.

    Args:
        urls: the list of the pool.
        work: folder of the shard's images and answers.

    Raises:
        ClipshiftError: img2dataset's environment is missing, or the program failed.
    """
    python = find_python()
    rows = read_shard(urls, shard).to_pylist()
    attempts = attempt_folders(work)
    if attempts and not (attempts[-1] / TODO).exists():  # killed before its list was whole
        shutil.rmtree(attempts.pop())
    if attempts and not is_done(attempts[-1]):
        LOG.info(f"continuing {attempts[-1].name}")
        _attempt(attempts[-1], fetching, python)
    else:
        found = answers(work)
        _new_attempt(rows, {k for k, a in found.items() if not a["reason"]}, work, fetching, python)
    # What no attempt knows: URLs that came into the list while one was interrupted.
    _new_attempt(rows, answers(work).keys(), work, fetching, python)
    found = answers(work)
    unknown = {
        "reason": NO_ANSWER,
        "message": None,
        "sha256": None,
        "attempt": None,
        "number": None,
    }
    whole = [row | unknown | found.get(row["key"], {}) for row in rows]
    write_parquet(out, pa.Table.from_pylist(whole, schema=OUTCOME))
    counts = Counter(row["reason"] or "fetched" for row in whole)
    LOG.info(json.dumps(dict(counts.most_common()), indent=2))


def is_done(attempt: Path) -> bool:
    return (attempt / "done.json").exists()


def answers(work: Path) -> dict[str, dict[str, Any]]:
    """By key what is known of each URL: of its image, else of its last failure."""
    found: dict[str, dict[str, Any]] = {}
    for place, folder in enumerate(attempt_folders(work)):
        for row in _rows(folder):
            if row["reason"] is None or found.get(row["key"], {"reason": ""})["reason"] is not None:
                found[row["key"]] = row | {"attempt": place}
    return found


def _rows(attempt: Path) -> Iterator[dict[str, Any]]:
    """What img2dataset's tables say, block by block; unfinished blocks say nothing."""
    for done in sorted(attempt.glob("*_stats.json")):
        table = attempt / f"{done.name.removesuffix('_stats.json')}.parquet"
        columns = ["sample", "key", "status", "error_message", "sha256"]
        for row in read_parquet(table, columns).to_pylist():
            yield {
                "key": row["sample"],
                "number": row["key"],
                "reason": reason(row["status"], row["error_message"]),
                "message": row["error_message"],
                "sha256": row["sha256"],
            }


def _new_attempt(
    rows: list[dict[str, Any]], known: Any, work: Path, fetching: Fetching, python: Path
) -> None:
    """Attempt the rows whose key is not known; nothing where all are."""
    todo = [{"sample": r["key"], "url": r["url"]} for r in rows if r["key"] not in known]
    if not todo:
        return
    folder = attempt_folder(work, len(attempt_folders(work)))
    table = pa.Table.from_pylist(todo).replace_schema_metadata({BLOCK: str(fetching.block)})
    with atomic(folder / TODO) as stream:  # one row group per block
        pq.write_table(table, stream, row_group_size=fetching.block)
    _attempt(folder, fetching, python)


def _attempt(folder: Path, fetching: Fetching, python: Path) -> None:
    """Run img2dataset on an attempt's list; blocks that are done are left out."""
    todo = folder / TODO
    with pq.ParquetFile(todo) as file:
        groups = file.metadata
        size = int(file.schema_arrow.metadata[BLOCK.encode()])
    LOG.info(f"{folder.name}: {groups.num_rows} URLs")
    settings = fetching.model_dump() | {
        "folder": str(folder.absolute()),
        "todo": str(todo.absolute()),
        "block": size,
    }
    write_json(folder / "settings.json", settings)
    source = str(PACKAGE.parent)
    code = run_bound(
        [str(python), "-m", "clipshift.datasets.urls.fetcher", str(folder / "settings.json")],
        os.environ | {"PYTHONPATH": source},
    )
    missing = [b for b in range(groups.num_row_groups) if not stats(folder, b).exists()]
    if code or missing:
        raise ClipshiftError(
            f"img2dataset did not finish {len(missing)} of {groups.num_row_groups} blocks in "
            f"{folder} (exit {code}); run again, it goes on where it was"
        )
    write_json(folder / "done.json", {"urls": groups.num_rows})


def find_python() -> Path:
    """The Python of img2dataset's environment.

    Raises:
        ClipshiftError: there is none.
    """
    default = ROOT / ".venv-img2dataset/bin/python"
    python = Path(os.environ.get(PYTHON, default))
    if not python.exists():
        raise ClipshiftError(
            f"{python} is missing: img2dataset has an environment of its own, which "
            f"`make img2dataset` makes; {PYTHON} may name the Python of another"
        )
    return python
