"""Queries over tables of any size: duckdb within a share of the job's memory, the rest on disk."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import unreadable

Paths = Sequence[Path]

# Where nobody says how much the job has.
ALONE = "8GB"


def limit() -> str:
    """As duckdb wants it: three quarters of what Slurm gave the job, else ALONE.

    duckdb itself takes up to four fifths of the machine, of which a job has but a share.
    """
    given = os.environ.get("SLURM_MEM_PER_NODE", "")  # MB; 0: all of the node
    return f"{int(given) * 3 // 4}MB" if given.isdigit() and int(given) else ALONE


@contextmanager
def database(memory: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own in a temporary folder (TMPDIR), which is removed with it.

    Args:
        memory: what it may take before it goes on on disk, in duckdb's words; None: `limit()`.

    Raises:
        OSError: the disk is full.
        ClipshiftError: a query needs more memory at once than it may take.
    """
    most = memory or limit()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="clipshift-") as scratch,
            duckdb.connect(str(Path(scratch) / "tables.db")) as db,
        ):
            db.execute("SET enable_progress_bar = false")
            db.execute(f"SET memory_limit = '{most}'")
            yield db
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        # duckdb says in its message only what was full; "offload" is to the temporary folder.
        if "could not write" in said.lower() or "failed to offload" in said:
            raise OSError(errno.ENOSPC, said, f"{tempfile.gettempdir()} or the output") from error
        if isinstance(error, duckdb.OutOfMemoryException):
            raise ClipshiftError(
                f"a query over the tables needs more than {most} of memory ({said}); run the job "
                "with more, e.g. --set-resources RULE:mem_mb=128000"
            ) from error
        if isinstance(error, duckdb.IOException | duckdb.InvalidInputException) or (
            type(error) is duckdb.Error  # of damaged files, without a class of its own
        ):
            named = next((Path(p) for p in re.findall(r"[\"']([^\"']+)[\"']", said)), Path())
            if named.is_file():
                raise unreadable(named, named.suffix[1:] or "table", error) from error
            raise ClipshiftError(f"a table cannot be read: {said}; make it again") from error
        raise


def count(db: duckdb.DuckDBPyConnection, rest: str, what: str = "count(*)") -> int:
    """A number of a query."""
    return int(db.execute(f"SELECT {what} {rest}").fetchall()[0][0])


def listed(paths: Paths) -> str:
    """Paths as a list of SQL, whatever their names hold.

    >>> listed([Path("a.parquet"), Path("o'b.parquet")])
    "['a.parquet', 'o''b.parquet']"
    """
    return f"[{', '.join(map(literal, paths))}]"


def literal(path: Path) -> str:
    """A path as text of SQL.

    >>> literal(Path("o'b.parquet"))
    "'o''b.parquet'"
    """
    return "'{}'".format(str(path).replace("'", "''"))
