"""Vectors as users have them, made into an embedding folder (`similarity.embeddings`).

Read are: clip-retrieval's folders, also with other dtypes or orders of memory; one npy with a file
of ids; npz (DataComp's, with a parquet of uids beside each); a column of lists in parquet (Hugging
Face's); h5, where h5py is installed; folders of these; and arrays in memory. What already is an
embedding folder stays where it is.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_bytes, write_json, write_parquet
from clipshift.core.files import write_npy_parts as write_parts
from clipshift.core.parquet import batches, parquet_file
from clipshift.core.readable import reading
from clipshift.similarity.embeddings import list_shards, natural, shard_paths
from clipshift.similarity.vector_files import (
    KEYS,
    VECTORS,
    Names,
    beside,
    find_column,
    ids_of,
    is_plain_shard,
    keys_of_array,
    load_npy,
    load_npz,
    no_metadata,
)

__all__ = ["Given", "Made", "Names", "as_folder"]

# A path, maybe `VECTORS::IDS`; or (N, D) vectors with N keys.
Given = Path | tuple[np.ndarray, Sequence[str]]
ROWS = 16_384  # in memory at once
_KINDS = (".npy", ".npz", ".parquet", ".h5", ".hdf5")


@dataclass(frozen=True)
class Part:
    """What becomes one shard: (rows, dimension) vectors, some at a time, and a key for each."""

    where: Path
    rows: int
    dimension: int
    dtype: np.dtype
    keys: pa.ChunkedArray
    chunks: Callable[[], Iterable[np.ndarray]]
    shard: str = ""  # its name, where it has one


@dataclass
class Made:
    """An embedding folder, and what was guessed on the way."""

    folder: Path
    said: list[str] = field(default_factory=list)


def as_folder(given: Given, out: Path, normalise: bool = False, names: Names | None = None) -> Made:
    """The embedding folder of what is given: itself, or made in `out`, which is kept while the
    files stay the same.

    Args:
        normalise: divide each row by its norm (in float64, stored as float32).
        names: of the array or column of vectors, and of the column of keys.

    Raises:
        ClipshiftError: nothing there is read, rows and keys differ in number, a key is missing, or
            float64 values that float32 cannot hold (without `normalise`).
    """
    names = names or Names()
    if not isinstance(given, tuple):
        vectors, _, ids = str(given).partition("::")
        path, listed = Path(vectors), Path(ids) if ids else None
        for file in filter(None, (path, listed)):
            if not file.exists():
                raise ClipshiftError(f"{file} is not there")
        if (path / "img_emb").is_dir() and not normalise and names == Names():
            shards = list_shards(path)
            if all(is_plain_shard(*shard_paths(path, shard)) for shard in shards):
                return Made(path)
    made = Made(out)
    identity = _identity(given, normalise, names)
    mark = out / "made_of.json"
    if mark.exists() and read_json(mark) == identity:
        return made
    shutil.rmtree(out, ignore_errors=True)
    if isinstance(given, tuple):
        parts: Iterable[Part] = [_of_arrays(*given)]
    else:
        parts = _parts(path, listed, names, made.said)
    for number, part in enumerate(parts):
        _write(out, part.shard or f"{number:05d}", part, normalise)
    write_json(mark, identity)
    return made


def _identity(given: Given, normalise: bool, names: Names) -> dict[str, Any]:
    if isinstance(given, tuple):
        vectors, keys = given
        data = np.ascontiguousarray(vectors).tobytes() + "\0".join(map(str, keys)).encode()
        what: Any = [str(vectors.dtype), list(vectors.shape), sha256_bytes(data)]
    else:
        paths = [Path(word) for word in str(given).split("::")]
        files = [f for p in paths for f in ([p] if p.is_file() else sorted(p.rglob("*")))]
        stats = [(f, f.stat()) for f in files if f.is_file()]
        what = [[str(f.resolve()), s.st_size, s.st_mtime_ns] for f, s in stats]
    return {"of": what, "normalise": normalise, "names": [names.vectors, names.keys]}


def _write(out: Path, shard: str, part: Part, normalise: bool) -> None:
    if part.rows != len(part.keys):
        raise ClipshiftError(f"{part.where}: {part.rows} vectors, but {len(part.keys)} keys")
    half = part.dtype.newbyteorder("=") == np.float16 and not normalise
    dtype = np.dtype(np.float16 if half else np.float32)

    def converted() -> Iterator[np.ndarray]:
        row = 0
        for chunk in part.chunks():
            yield _converted(chunk, dtype, normalise, part, row)
            row += len(chunk)

    image, table = shard_paths(out, shard)
    write_parts(image, dtype, (part.rows, part.dimension), converted())
    write_parquet(table, pa.table({"image_path": part.keys}))


def _converted(
    chunk: np.ndarray, dtype: np.dtype, normalise: bool, part: Part, row: int
) -> np.ndarray:
    if normalise:
        wide = chunk.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # what is no number is said when read
            norms = np.linalg.norm(wide, axis=1, keepdims=True)
            return np.ascontiguousarray(wide / np.where(norms > 0, norms, 1), dtype=dtype)
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(chunk, dtype=dtype)
    inexact = ~((found.astype(chunk.dtype) == chunk) | np.isnan(chunk)).all(1)
    if inexact.any():
        first = row + int(np.flatnonzero(inexact)[0])
        raise ClipshiftError(
            f"{part.where}: row {first} (key {part.keys[first].as_py()!r}) holds {chunk.dtype} "
            f"values that {dtype} cannot hold exactly; give --normalise, which stores float32, or "
            "write the file again as float32"
        )
    return found


def _of_arrays(vectors: np.ndarray, keys: Sequence[str]) -> Part:
    where = Path("the array")
    return _of_array(where, np.asarray(vectors), keys_of_array(list(keys), where))


def _of_array(where: Path, vectors: np.ndarray, keys: pa.ChunkedArray) -> Part:
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ClipshiftError(
            f"{where}: expected (N, D) numbers of floating point, found {vectors.shape} "
            f"{vectors.dtype}"
        )
    starts = range(0, len(vectors), ROWS)
    return Part(
        where, len(vectors), vectors.shape[1], vectors.dtype, keys,
        lambda: (vectors[start : start + ROWS] for start in starts),
    )  # fmt: skip


def _parts(path: Path, ids: Path | None, names: Names, said: list[str]) -> Iterator[Part]:
    if (path / "img_emb").is_dir():
        for shard in list_shards(path):
            image, table = shard_paths(path, shard)
            if not table.exists():
                raise no_metadata(table)
            part = _of_array(image, load_npy(image), ids_of(table, None, names, said))
            yield replace(part, shard=shard)
        return
    files = [path] if path.is_file() else _files(path)
    if ids is not None and len(files) > 1:
        raise ClipshiftError(f"{path} holds {len(files)} files of vectors; but one of ids is given")
    for file in files:
        yield _part(file, ids, names, said)


def _files(folder: Path) -> list[Path]:
    """The files of vectors in a folder: npz, else parquet with lists, else npy, else h5."""
    every = sorted((f for f in folder.rglob("*") if f.is_file()), key=lambda f: natural(str(f)))
    for kinds in ((".npz",), (".npy",), (".parquet",), (".h5", ".hdf5")):
        found = [f for f in every if f.suffix.lower() in kinds]
        if kinds == (".npy",):
            found = [f for f in found if load_npy(f).ndim == 2]
        if found:
            return found
    raise ClipshiftError(
        f"{folder} holds no vectors: expected img_emb/img_emb_*.npy with metadata/, or files of "
        f"the kinds {', '.join(_KINDS)}"
    )


def _part(file: Path, ids: Path | None, names: Names, said: list[str]) -> Part:
    kind = file.suffix.lower()
    if kind == ".npz":
        return _of_npz(file, ids, names, said)
    if kind == ".parquet":
        return _of_parquet(file, ids, names, said)
    if kind in (".h5", ".hdf5"):
        return _of_h5(file, ids, names, said)
    vectors = load_npy(file)
    return _of_array(file, vectors, ids_of(beside(file, ids), len(vectors), names, said))


def _of_npz(file: Path, ids: Path | None, names: Names, said: list[str]) -> Part:
    vectors, keys = load_npz(file, names, said)
    if keys is None or ids is not None:
        keys = ids_of(beside(file, ids), len(vectors), names, said)
    return _of_array(file, vectors, keys)


def _of_parquet(file: Path, ids: Path | None, names: Names, said: list[str]) -> Part:
    with parquet_file(file) as source:
        schema, rows = source.schema_arrow, source.metadata.num_rows
    lists = [f.name for f in schema if _is_vector(f.type)]
    column = find_column(file, lists, VECTORS, names.vectors, "column of vectors", said)
    head = next(batches(file, 1, [column]), None)
    dimension = len(head[column][0]) if head is not None and head[column][0].is_valid else 0
    dtype = np.dtype(schema.field(column).type.value_type.to_pandas_dtype())

    def chunks() -> Iterator[np.ndarray]:
        row = 0
        for batch in batches(file, ROWS, [column]):
            cells = batch[column]
            sizes = pa.compute.list_value_length(cells).to_numpy(zero_copy_only=False)
            odd = np.flatnonzero(sizes != dimension)
            if not dimension or odd.size or pa.compute.list_flatten(cells).null_count:
                raise ClipshiftError(
                    f"{file}: row {row + int(odd[0]) if odd.size else row} has no vector of "
                    f"{dimension} numbers in {column}, as the others have"
                )
            flat = pa.compute.list_flatten(cells).to_numpy(zero_copy_only=False)
            yield flat.reshape(-1, dimension)
            row += len(cells)

    return Part(file, rows, dimension, dtype, ids_of(ids or file, rows, names, said), chunks)


def _is_vector(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    lists = lists or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_floating(kind.value_type))


def _of_h5(file: Path, ids: Path | None, names: Names, said: list[str]) -> Part:
    try:
        import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise ClipshiftError(
            f"{file}: h5py is not installed, without which HDF5 is not read; install it, or write "
            "the vectors by np.save"
        ) from None
    with reading(file, "HDF5"), h5py.File(file) as source:
        name = find_column(file, list(source), VECTORS, names.vectors, "array", said)
        vectors = np.asarray(source[name][...])
        own = next((k for k in KEYS if k in source), None)
        listed = source[own][...] if own and not ids else None
    if listed is not None:
        return _of_array(file, vectors, keys_of_array(listed, file))
    return _of_array(file, vectors, ids_of(beside(file, ids), len(vectors), names, said))
