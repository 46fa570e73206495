"""Queries over tables of any size: duckdb within a share of the job's memory, the rest on disk."""

import atexit
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import duckdb

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import unreadable

Paths = Sequence[Path]

# Where nobody says how much the job has.
ALONE = "8GB"
# What makes a path a pattern for duckdb.
_PATTERN = set("*?[")


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
            tempfile.TemporaryDirectory(prefix="clipshift-", dir=_temporary()) as scratch,
            duckdb.connect(str(Path(scratch) / "tables.db")) as db,
        ):
            db.execute("SET enable_progress_bar = false")
            db.execute(f"SET memory_limit = '{most}'")
            yield db
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        if _disk_is_full(said):
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


def _disk_is_full(said: str) -> bool:
    """duckdb says in its message only what was full; "offload" is to the temporary folder."""
    return "could not write" in said.lower() or "failed to offload" in said


def is_of_a_file(error: duckdb.Error) -> bool:
    """Whether an error is the fault of a file that is read, not of memory or disk."""
    return not (isinstance(error, duckdb.OutOfMemoryException) or _disk_is_full(str(error)))


def count(db: duckdb.DuckDBPyConnection, rest: str, what: str = "count(*)") -> int:
    """A number of a query."""
    return int(db.execute(f"SELECT {what} {rest}").fetchall()[0][0])


def parquet(paths: Paths, options: str = "") -> str:
    """The source of a query: parquet files in their order, whatever their names hold.

    Folders called `name=value` are no columns of theirs. `file_index` is a file's place.

    Args:
        options: of `read_parquet`, each after a comma.

    >>> parquet([Path("/a.parquet"), Path("/o'b.parquet")])
    "read_parquet(['/a.parquet', '/o''b.parquet'], hive_partitioning = false)"
    """
    return f"read_parquet({listed(paths)}, hive_partitioning = false{options})"


def listed(paths: Paths) -> str:
    """Paths to read from as a list of SQL (see `parquet`), for a reader that is told
    `hive_partitioning = false`."""
    return f"[{', '.join(literal(_plain(path)) for path in paths)}]"


def literal(path: Path | str) -> str:
    """Text of SQL; as the path of a file only for one that is written.

    >>> literal(Path("o'b.parquet"))
    "'o''b.parquet'"
    """
    return "'{}'".format(str(path).replace("'", "''"))


def identifier(name: str) -> str:
    """A name of a column in SQL.

    >>> identifier('a "b" c')
    '"a ""b"" c"'
    """
    return '"{}"'.format(name.replace('"', '""'))


def _plain(path: Path) -> Path:
    """A path to read from that duckdb takes for nothing else: neither a pattern, nor a URL, nor a
    home folder. Where its own is a pattern, a link of this process."""
    absolute = Path(path).absolute()
    if not _PATTERN & set(str(absolute)):
        return absolute
    link = _links() / sha256(os.fsencode(absolute)).hexdigest()
    if not link.is_symlink():
        link.symlink_to(absolute)
    return link


@cache
def _links() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="clipshift-", dir=_temporary())
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _temporary() -> str:
    """The folder of temporary files; where duckdb would take its name for a pattern, /tmp."""
    found = tempfile.gettempdir()
    return "/tmp" if _PATTERN & set(found) else found
