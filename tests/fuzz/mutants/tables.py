"""Kinds for parquet tables, arrays, checkpoints and images."""

import io
import pickle
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.mutants import Unsuitable, kind
from tests.fuzz.mutants.texts import WORDS
from tests.fuzz.mutants.values import IMAGES

IMAGE = (".jpg", ".png", ".webp", ".gif", ".tif", ".bmp")


def _table(path: Path, chance: Random) -> tuple[pa.Table, int]:
    table = pq.read_table(path, use_threads=False)
    if not table.num_columns or not table.num_rows:
        raise Unsuitable
    return table, chance.randrange(table.num_columns)


def _set(path: Path, table: pa.Table, at: int, column: Any) -> None:
    pq.write_table(table.set_column(at, table.column_names[at], column), path)


TYPES = (pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.date32(), pa.null())


@kind("pq-type", ".parquet")
def type_(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    made = chance.choice(TYPES)
    values: Any = [None] * len(table)
    if not pa.types.is_null(made):
        values = [chance.randrange(2) for _ in range(len(table))]
        values = [bool(v) for v in values] if pa.types.is_boolean(made) else values
    _set(path, table, at, pa.array(values, made))


@kind("pq-nested", ".parquet")
def nested(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    name = table.column_names[at]
    _set(path, table, at, pa.array([{name: v} for v in table[at].to_pylist()]))


@kind("pq-list", ".parquet")
def list_(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    _set(path, table, at, pa.array([[v] for v in table[at].to_pylist()]))


@kind("pq-binary", ".parquet")
def binary(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    values = [None if v is None else str(v).encode() for v in table[at].to_pylist()]
    _set(path, table, at, pa.array(values, pa.binary()))


@kind("pq-badutf8", ".parquet")
def badutf8(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    values = [str(v).encode() for v in table[at].to_pylist()]
    values[chance.randrange(len(values))] = b"\xff\xfe\xfd"
    raw = pa.array(values, pa.binary())
    made = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    _set(path, table, at, made)


@kind("pq-null", ".parquet")
def null(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    values = table[at].to_pylist()
    values[chance.randrange(len(values))] = None
    _set(path, table, at, pa.array(values, table[at].type))


@kind("pq-large", ".parquet")
def large(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    values = [None if v is None else str(v) for v in table[at].to_pylist()]
    _set(path, table, at, pa.array(values, pa.large_string()))


@kind("pq-dictionary", ".parquet")
def dictionary(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    try:
        _set(path, table, at, table[at].combine_chunks().dictionary_encode())
    except pa.ArrowException:
        raise Unsuitable from None


@kind("pq-value", ".parquet")
def value(path: Path, chance: Random) -> None:
    table, at = _table(path, chance)
    if not pa.types.is_string(table[at].type):
        raise Unsuitable
    values = table[at].to_pylist()
    odd = chance.choice([w for w in WORDS if w != "\ud800"])
    values[chance.randrange(len(values))] = chance.choice((odd, values[0], values[-1]))
    _set(path, table, at, pa.array(values, pa.string()))


@kind("pq-rows", ".parquet")
def rows(path: Path, chance: Random) -> None:
    """A row is gone or comes twice, all are gone, or they are in another order."""
    table, _ = _table(path, chance)
    every = list(range(len(table)))
    one = chance.choice(every)
    order = chance.choice((
        [i for i in every if i != one], [*every, one], [], chance.sample(every, len(every)),
    ))  # fmt: skip
    pq.write_table(table.take(pa.array(order, pa.int64())), path)


@kind("pq-columns", ".parquet")
def columns(path: Path, chance: Random) -> None:
    """A column is gone, has another name, or there are two of its name."""
    table, at = _table(path, chance)
    name = table.column_names[at]
    match chance.randrange(4):
        case 0:
            table = table.remove_column(at)
        case 1:
            table = table.rename_columns([*table.column_names[:at], "x\n'\"",
                                          *table.column_names[at + 1 :]])  # fmt: skip
        case 2:
            table = table.append_column(name, table[at])
        case 3:
            other = chance.randrange(table.num_columns)
            names = table.column_names
            names[at], names[other] = names[other], names[at]
            table = table.rename_columns(names)
    pq.write_table(table, path)


def _save(path: Path, array: np.ndarray, pickled: bool = False) -> None:
    with path.open("wb") as stream:
        np.save(stream, array, allow_pickle=pickled)


@kind("npy-value", ".npy")
def npy_value(path: Path, chance: Random) -> None:
    array = np.load(path)
    if array.dtype.kind != "f" or not array.size:
        raise Unsuitable
    row = chance.randrange(len(array))
    match chance.randrange(5):
        case 0:
            array[row, chance.randrange(array.shape[1])] = np.nan
        case 1:
            array[row, 0] = chance.choice((np.inf, -np.inf))
        case 2:
            array[row] = 0
        case 3:
            array[row] *= chance.choice((-1, 2, 0.5, 1.01))
        case 4:
            array[row] = array[(row + 1) % len(array)]
    _save(path, array)


@kind("npy-form", ".npy")
def npy_form(path: Path, chance: Random) -> None:
    array = np.load(path)
    made = (
        array.astype("f8"), array.astype("f4"), array.astype(">f4"), np.asfortranarray(array),
        array.astype("i8"), array.astype("U5"), array.astype("c8"), array[:, :-1], array[:-1],
        array[None], array.ravel(), np.float32(1), array[:0], array[:, :0], array.T,
        array.view("V2"), np.concatenate([array, array]),
    ) if array.ndim == 2 else (array[:-1], array.astype("S9"), array[None])  # fmt: skip
    _save(path, chance.choice(made))


@kind("npy-object", ".npy")
def npy_object(path: Path, chance: Random) -> None:
    _save(path, np.array([{"a": 1}, None], dtype=object), pickled=True)


@kind("npy-header", ".npy")
def npy_header(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    size = struct.unpack("<H", data[8:10])[0]
    shapes = (
        "(-1, 8)",
        "(99999999999, 8)",
        "(2, 4611686018427387904)",
        "()",
        "(1.5, 2)",
        "'x'",
        "(True, 8)",
        "(" * 300,
        "(10, 8, ",
        "(9**9**9, 1)",
        "(10, 8) + (1,)",
        "[10, 8]",
    )
    kinds = ("'<f2'", "'|O'", "'<f99'", "'m'", "[('a', '<f2')]", "1", "'<U99999999'")
    text = f"{{'descr': {kinds[0]}, 'fortran_order': False, 'shape': {chance.choice(shapes)}, }}"
    if chance.random() < 0.4:
        text = (
            f"{{'descr': {chance.choice(kinds)}, 'fortran_order': {chance.choice(('0', 'True'))}, "
            "'shape': (10, 8), }"
        )
    head = text.encode().ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    path.write_bytes(data[:8] + struct.pack("<H", len(head)) + head + data[10 + size :])


CHECKPOINTS = ("int", "none", "list", "text", "empty", "nested", "prefix", "numpy", "pickle",
               "half", "shape", "nan", "names", "legacy", "deep")  # fmt: skip


class Trap:
    """Unpickled, it makes a folder; nothing may unpickle it."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, ("trapped",)


def _made(way: str, state: Any) -> Any:
    import torch

    weights = state if isinstance(state, dict) else {}
    simple: dict[str, Any] = {
        "int": 3, "none": None, "list": [1], "text": "x", "empty": {}, "nested": {"state": state},
        "names": {1: 2, None: 3}, "numpy": {"epoch": np.float64(1)},
    }  # fmt: skip
    if way in simple:
        return simple[way]
    if way == "deep":
        value: Any = []
        for _ in range(80):
            value = [value]
        return value
    if way == "prefix":
        return {f"module._orig_mod.{k}": v for k, v in weights.items()}
    changed = dict(weights)
    for name, tensor in weights.items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            changed[name] = {
                "half": tensor.half(), "shape": tensor.reshape(-1)[:1], "nan": tensor * torch.nan,
            }[way]  # fmt: skip
            return changed
    return {"epoch": way}


for _way in CHECKPOINTS:

    @kind(f"ckpt-{_way}", ".pt")
    def _checkpoint(path: Path, chance: Random, way: str = _way) -> None:
        import torch

        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            raise Unsuitable from None
        out = io.BytesIO()
        if way == "pickle":
            trap = {"epoch": 1, "x": Trap()}
            if chance.random() < 0.5:
                path.write_bytes(pickle.dumps(trap))
                return
            torch.save(trap, out)
        elif way == "legacy":
            torch.save(state, out, _use_new_zipfile_serialization=False)
        else:
            torch.save(_made(way, state), out)
        path.write_bytes(out.getvalue())


@kind("srcimg-other", *IMAGE)
def srcimg(path: Path, chance: Random) -> None:
    path.write_bytes(chance.choice(IMAGES))
