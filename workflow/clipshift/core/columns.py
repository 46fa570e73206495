"""Columns of foreign tables as what their reader needs, or an error that names the column."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core.errors import ClipshiftError


def text(column: pa.ChunkedArray, name: str, where: Path) -> pa.ChunkedArray:
    """Text: strings, bytes in UTF-8 and whole numbers, also as a dictionary; nulls stay.

    Raises:
        ClipshiftError: values of another type (lists, structures, fractions, dates), or bytes that
            are not UTF-8.
    """
    kind = _plain(column.type)
    if not (
        _is_string(kind) or _is_bytes(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)
    ):
        raise ClipshiftError(f"{where}: the column {name!r} is {_short(kind)}, no text")
    try:
        if pa.types.is_fixed_size_binary(kind):
            column = column.cast(pa.binary())
        found = column.cast(pa.string())
        found.validate(full=True)
    except pa.ArrowException as error:
        raise ClipshiftError(
            f"{where}: {_row_of(column)}the column {name!r} is no text in UTF-8 ({error})"
        ) from error
    return found


def keys(column: pa.ChunkedArray, name: str, where: Path) -> pa.ChunkedArray:
    """As `text`, of a column that names its rows.

    Raises:
        ClipshiftError: as there, or a key is missing.
    """
    found = text(column, name, where)
    if found.null_count:
        row = pc.index(found.is_null(), True).as_py()
        raise ClipshiftError(f"{where}: row {row} has no key ({name}); every row needs its own")
    return found


def numbers(column: pa.ChunkedArray, name: str, where: Path) -> np.ndarray:
    """(N,) float64, NaN where there is none.

    Raises:
        ClipshiftError: values of another type than numbers.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)):  # fmt: skip
        raise ClipshiftError(f"{where}: the column {name!r} is {_short(kind)}, no numbers")
    found: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return found


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is of strings, also as a dictionary."""
    return _is_string(_plain(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_string(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(is_bytes or types.is_fixed_size_binary(kind))


def _short(kind: pa.DataType) -> str:
    said = str(kind)
    return said if len(said) <= 60 else f"{said[:57]}..."


def _row_of(column: pa.ChunkedArray) -> str:
    """Where the first value is that is no UTF-8."""
    for row, value in enumerate(column.cast(pa.large_binary())):
        try:
            str(value.as_py() or b"", "utf-8")
        except UnicodeDecodeError:
            return f"row {row}: "
    return ""
