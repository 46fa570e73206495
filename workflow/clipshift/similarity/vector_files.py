"""Parts of the files that `similarity.given` reads: arrays, and the keys of their rows."""

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from clipshift.core import columns
from clipshift.core.csv_file import CELL
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.core.parquet import schema_of
from clipshift.core.readable import reading, unreadable
from clipshift.core.sniff import regular_file

# Names of vectors and of keys that are guessed, in order of preference.
VECTORS = ("l14_img", "b32_img", "image_embedding", "image_embeddings", "img_emb", "embedding",
           "embeddings", "vectors", "vector", "features", "feature", "emb", "arr_0")  # fmt: skip
KEYS = ("image_path", "key", "keys", "uid", "uids", "__key__", "id", "ids", "image_id",
        "sample_id", "file_name", "filename", "path", "url")  # fmt: skip
# Bytes that an array of an archive unpacks to: any number below the first, and up to so many times
# its size. Vectors hardly shrink; keys, padded with zeros, do.
UNPACKED, RATIO = 1 << 28, 200
_IDS = (".parquet", ".txt", ".csv", ".tsv", ".npy")


@dataclass(frozen=True)
class Names:
    """The user's names of the array or column of vectors, and of the column of keys."""

    vectors: str | None = None
    keys: str | None = None


def load_npy(path: Path) -> np.ndarray:
    """A mapped array of any dtype and order.

    Raises:
        ClipshiftError: no npy file, or one of Python objects.
    """
    regular_file(path)
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # damaged headers raise nearly every kind of exception
        if _is_of_objects(error) and path.open("rb").read(6) == b"\x93NUMPY":
            raise objects(path) from error
        raise unreadable(path, "npy", error) from error
    if not isinstance(found, np.ndarray):
        raise ClipshiftError(f"{path} is an archive of arrays; call it .npz")
    return found


def load_npz(path: Path, names: Names, said: list[str]) -> tuple[np.ndarray, pa.Array | None]:
    """The vectors of an archive, and the keys where it has some.

    Raises:
        ClipshiftError: damaged, of Python objects, or it unpacks to far more than vectors do.
    """
    try:
        with reading(path, "npz"):
            for entry in zipfile.ZipFile(path).infolist():
                if entry.file_size > max(UNPACKED, RATIO * entry.compress_size):
                    raise ClipshiftError(
                        f"{path}: {entry.filename} unpacks to {entry.file_size >> 20} MiB, more "
                        "than vectors or keys do; get it again, or write it by np.save"
                    )
            with np.load(path, allow_pickle=False) as archive:
                name = find_column(path, archive.files, VECTORS, names.vectors, "array", said)
                vectors = archive[name]
                asked = [names.keys] if names.keys in archive.files else KEYS
                own = next((k for k in asked if k in archive.files and k != name), None)
                listed = archive[own] if own else None
    except ClipshiftError as error:
        if _is_of_objects(error.__cause__):
            raise objects(path) from error
        raise
    if not isinstance(vectors, np.ndarray):
        raise ClipshiftError(f"{path}: {name!r} is no array; get it again")
    return vectors, None if listed is None else keys_of_array(listed, path)


def _is_of_objects(error: BaseException | None) -> bool:
    return "allow_pickle" in str(error)


def objects(path: Path) -> ClipshiftError:
    return ClipshiftError(
        f"{path} holds Python objects, which are not read; write it again with "
        "np.save(path, np.stack(vectors).astype(np.float32))"
    )


def keys_of_array(listed: object, where: Path) -> pa.Array:
    """Keys of a list or an array of one dimension.

    Raises:
        ClipshiftError: it is neither, or holds no keys.
    """
    try:
        values = pa.array(np.asarray(listed).tolist() if isinstance(listed, np.ndarray) else listed)
    except (pa.ArrowException, TypeError, ValueError, UnicodeError) as error:
        raise ClipshiftError(f"{where}: its keys are no list of texts ({error})") from error
    return columns.keys(values, "keys", where)


def is_plain_shard(image: Path, table: Path) -> bool:
    """Whether a shard of clip-retrieval's layout is read as it is; so is what is to be refused.

    Raises:
        ClipshiftError: it has no metadata, or a file cannot be read.
    """
    if not table.exists():
        raise no_metadata(table)
    vectors = load_npy(image)
    native = vectors.dtype in (np.float16, np.float32) and vectors.dtype.isnative
    plain = vectors.ndim != 2 or vectors.dtype.kind != "f"
    plain |= native and vectors.flags.c_contiguous
    return plain and "image_path" in schema_of(table).names


def no_metadata(table: Path) -> ClipshiftError:
    return ClipshiftError(
        f"{table} is missing: every img_emb_*.npy needs its metadata, with the column image_path "
        "and rows in the same order; get it, too, or give it the name of its npy file"
    )


def find_column(
    file: Path, there: Sequence[str], known: Sequence[str], asked: str | None, what: str,
    said: list[str],
) -> str:  # fmt: skip
    """The name that is asked for, or known, or the only one.

    Raises:
        ClipshiftError: there is none, or several.
    """
    if asked is not None:
        if asked not in there:
            raise ClipshiftError(f"{file} has no {what} {asked!r}; it has {list(there)}")
        return asked
    folded = {name.casefold(): name for name in reversed(there)}
    found = next((folded[name] for name in known if name in folded), None)
    if found is None and len(there) == 1:
        found = there[0]
    if found is None:
        raise ClipshiftError(
            f"{file}: no {what} of a known name among {list(there)}; name it by --vectors NAME, "
            "or that of the keys by --keys NAME"
        )
    if len(there) > 1:
        line = f"the {what} {found!r} is read, of {list(there)}"
        if line not in said:
            said.append(line)
    return found


def beside(file: Path, ids: Path | None) -> Path:
    """The file of ids that lies beside one of vectors.

    Raises:
        ClipshiftError: there is none.
    """
    if ids is not None:
        return ids
    stem = file.stem
    stems = [stem, f"{stem}_ids", f"{stem}.ids", f"{stem}_keys", f"{stem}_metadata"]
    stems += [stem.replace("img_emb", "metadata"), "ids", "keys", "metadata"]
    for name in stems:
        for suffix in _IDS:
            found = file.with_name(name + suffix)
            if found != file and found.is_file():
                return found
    raise ClipshiftError(
        f"{file} has no keys: lay a file of them beside it, {stem}.txt (one a line), .csv, "
        f".parquet or {stem}_ids.npy, or name it by {file.name}::IDS"
    )


def ids_of(file: Path, rows: int | None, names: Names, said: list[str]) -> pa.ChunkedArray:
    """The keys in a file, in its order.

    Args:
        rows: as many are expected: tells a header from a first line.

    Raises:
        ClipshiftError: unreadable, a key is missing, or another number of keys.
    """
    kind = file.suffix.lower()
    if kind == ".npy":
        keys = keys_of_array(load_npy(file), file)
    elif kind == ".parquet":
        texts = [f.name for f in schema_of(file) if not pa.types.is_nested(f.type)]
        column = find_column(file, texts, KEYS, names.keys, "column of keys", said)
        keys = columns.keys(read_parquet(file, [column])[column], column, file)
    else:
        keys = keys_of_array(_lines(file, rows, names, said), file)
    if rows is not None and len(keys) != rows:
        raise ClipshiftError(f"{file}: {len(keys)} keys, but {rows} vectors")
    return keys


def _lines(file: Path, rows: int | None, names: Names, said: list[str]) -> list[str]:
    with reading(file, "text"):
        content = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() not in (".csv", ".tsv"):
            return content.splitlines()
        mark = "\t" if file.suffix.lower() == ".tsv" else ","
        csv.field_size_limit(CELL)
        table = [row for row in csv.reader(content.splitlines(True), delimiter=mark) if row]
    if not table or (len(table) == rows and len(table[0]) == 1):
        return [row[0] for row in table]
    head = table[0]
    column = head.index(find_column(file, head, KEYS, names.keys, "column of keys", said))
    if short := next((i for i, row in enumerate(table, 1) if len(row) != len(head)), None):
        raise ClipshiftError(f"{file}: row {short} has another number of fields than the header")
    return [row[column] for row in table[1:]]
