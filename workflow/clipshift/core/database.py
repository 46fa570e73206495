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
from clipshift.core.parquet import batches
from clipshift.core.readable import require_unicode, unreadable

Paths = Sequence[Path]

# Where nobody says how much the job has.
ALONE = "8GB"
# Types of columns that are no text, and those that name no row.
_NESTED = ("STRUCT", "MAP", "UNION", "JSON", "VARIANT")
_NO_KEY = ("FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN", "DATE", "TIME", "INTERVAL", "BIT")
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
        if not is_of_a_file(error):
            raise
        if named := _named(said):
            raise unreadable(named, named.suffix[1:] or "table", error) from error
        raise ClipshiftError(f"a table cannot be read: {said}; make it again") from error


def _disk_is_full(said: str) -> bool:
    """duckdb says in its message only what was full; "offload" is to the temporary folder."""
    return "could not write" in said.lower() or "failed to offload" in said


def is_of_a_file(error: duckdb.Error) -> bool:
    """Whether an error is the fault of a file that is read, not of memory, disk or a query."""
    if isinstance(error, duckdb.OutOfMemoryException) or _disk_is_full(str(error)):
        return False
    ours = isinstance(error, duckdb.ProgrammingError)
    return not ours or isinstance(error, duckdb.InvalidInputException)


@contextmanager
def reading(files: Paths) -> Iterator[None]:
    """Faults of files in the queries of the block, as an error that names the file.

    duckdb names it only for some of them.

    Raises:
        ClipshiftError: as said.
    """
    try:
        yield
    except duckdb.Error as error:
        if not is_of_a_file(error):
            raise
        said = str(error).splitlines()[0]
        file = _named(said) or next(filter(_is_damaged, files), files[0])
        raise unreadable(file, file.suffix[1:] or "table", error) from error


def _named(said: str) -> Path | None:
    """The file that an error of duckdb's names."""
    quoted = (Path(path) for path in re.findall(r"[\"']([^\"']+)[\"']", said))
    found = next((path for path in quoted if path.is_absolute() and path.is_file()), None)
    return found.readlink() if found and found.parent == _links() else found


def _is_damaged(file: Path) -> bool:
    if file.suffix.lower() != ".parquet":
        return False
    try:
        for _ in batches(file, 1 << 16):
            pass
    except ClipshiftError:
        return True
    return False


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


def text_of(column: str, kind: str, where: Path, key: bool = False) -> str:
    """SQL: a column of a foreign table as text; bytes are read as UTF-8.

    Args:
        kind: its type as duckdb names it.
        key: whether rows are found by it: then it is text or whole numbers, and bytes that are not
            UTF-8 are an error of the query, else escapes.

    Raises:
        ClipshiftError: it is no text.

    >>> text_of("a", "BIGINT", Path("t.parquet"))
    '"a"::VARCHAR'
    """
    name = identifier(column)
    if is_nested(kind) or (key and kind.startswith(_NO_KEY)):
        said = kind if len(kind) <= 60 else f"{kind[:57]}..."
        raise ClipshiftError(f"{where}: the column {column!r} is {said}, no text")
    if kind != "BLOB":
        return f"{name}::VARCHAR"
    return f"decode({name})" if key else f"coalesce(TRY(decode({name})), {name}::VARCHAR)"


def is_nested(kind: str) -> bool:
    """Whether duckdb's type is of lists or structures."""
    return kind.endswith("]") or kind.startswith(_NESTED)


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
    require_unicode(absolute)
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
