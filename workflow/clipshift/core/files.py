"""Files that are whole or absent, with bytes that depend on nothing but their content.

Imported when Snakemake reads the workflow: numpy and pyarrow wait for a file of theirs.
"""

from __future__ import annotations

import csv
import fcntl
import glob
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from pydantic import BeforeValidator

from clipshift.core.brace_ranges import spread_all
from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import special

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


_STATUS = Path("/proc/self/status")


def _umask() -> int:
    """The permissions that this process takes away; asked of the kernel, as `os.umask` sets one."""
    with suppress(OSError, ValueError, StopIteration), _STATUS.open("rb") as lines:
        return int(next(line for line in lines if line.startswith(b"Umask:")).split()[1], 8)
    mask = os.umask(0o077)  # where there is no /proc: at import, before there are threads
    os.umask(mask)
    return mask


# Permissions of new files, as any program would give them.
MODE = 0o666 & ~_umask()
# Files of a step: its rule may give ranges of numbers, its function gets paths.
Files = Annotated[list[Path], BeforeValidator(spread_all)]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed to `path` only when the block ends well.

    A kill or a full disk leaves the old file (or none), never half of a new one.
    """
    if path.exists() and not path.is_file():  # a device would be replaced by a file
        raise ClipshiftError(f"{path} {special(path)}; name another file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    _lock(handle)  # until it is closed, or the process is killed: then the part is nobody's
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(MODE)
        part.replace(path)
    except OSError as error:
        # Errors of a write carry no file name; the message to the user needs one.
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file; False where another process holds it or the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(path: Path) -> None:
    """Remove the parts that killed writers of `path` left; those of living ones are locked."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(FileNotFoundError), part.open("rb+") as stream:
            if _lock(stream.fileno()):
                part.unlink()


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """As `atomic_path`, opened for writing bytes."""
    with atomic_path(path) as part, part.open("wb") as stream:
        yield stream


def write_text(path: Path, text: str) -> None:
    """UTF-8; a byte of a file's name that is none is written as JSON escapes it (`\\udcff`)."""
    with atomic(path) as stream:
        stream.write(text.encode(errors="backslashreplace"))


def json_text(value: Any) -> str:
    """Indented, with sorted keys: the same value gives the same bytes.

    Raises:
        ValueError: it holds a number that JSON has not: NaN, or one that is infinite.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def write_json(path: Path, value: Any) -> None:
    """As `json_text` has it."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """A file that `write_json` wrote.

    Raises:
        ClipshiftError: it is none.
    """
    if path.exists() and (what := special(path)):
        raise ClipshiftError(f"{path} {what}")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ClipshiftError(f"{path} is not JSON ({error}); delete it and run again") from error


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def parse_json(text: str) -> Any:
    """The value of JSON that others wrote.

    Raises:
        ValueError: it is none, nested deeper than is read, or a key is there twice in one object.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return value


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table that `write_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of equal keys; floats with six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())


def write_parquet(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with atomic(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table; a missing column or a broken file names the file.

    Raises:
        ClipshiftError: not a parquet file, a damaged one, or `columns` are not all there.
    """
    from clipshift.core.parquet import parquet_file, require_columns

    with parquet_file(path) as file:
        require_columns(path, file.schema_arrow, columns or file.schema_arrow.names)
        table = file.read(columns)
        table.validate(full=True)  # text that is not UTF-8; offsets out of its memory
    return table


def write_npy(path: Path, array: np.ndarray) -> None:
    import numpy as np

    write_npy_parts(path, array.dtype, array.shape, [np.ascontiguousarray(array)])


def write_npy_parts(
    path: Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]
) -> None:
    """Write an array part by part, as `np.save` does it whole.

    Not with numpy's own functions: `tofile` loses the reason of a failed write, and a memory-mapped
    file kills the process where the disk is full.
    """
    import numpy as np

    if dtype.hasobject:
        raise ValueError("an array of objects would need pickle")
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with atomic(path) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for part in parts:
            stream.write(part.tobytes())


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Any) -> str:
    """Of any JSON value; the order of keys does not count."""
    return sha256_bytes(json.dumps(value, sort_keys=True).encode())


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
