"""Foreign tables, of odd types, damaged, or no file: read, or an error that names them."""

import gzip
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.apps.audit.inputs import open_side
from clipshift.apps.audit.predictions import read_predictions
from clipshift.apps.labelling.catalogue import Item
from clipshift.apps.labelling.released import Subset, released
from clipshift.apps.labelling.scores import sort_items
from clipshift.apps.labelling.table import read_labels
from clipshift.core.columns import keys, numbers, text
from clipshift.core.csv_file import open_csv
from clipshift.core.database import database, parquet, reading
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_npy, write_parquet
from clipshift.datasets.formats import open_dataset, tables
from clipshift.datasets.formats.tar_samples import fields_of
from clipshift.datasets.urls.listing import read_shard, write_list
from clipshift.similarity.embeddings import open_rows, read_all, shard_paths
from clipshift.similarity.external_embeddings import index
from clipshift.similarity.given import as_folder

KEYS = [f"k{i:03d}" for i in range(40)]
WHERE = Path("t.parquet")
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 4))
VECTORS = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float16)


def not_utf_8(values: list[str]) -> pa.Array:
    """An array of strings that says it is UTF-8."""
    data = pa.array([v.encode() + b"\xff" for v in values], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), data.buffers())


def embedded(folder: Path, **columns: Any) -> Path:
    write_npy(shard_paths(folder, "0")[0], VECTORS)
    write_parquet(shard_paths(folder, "0")[1], pa.table({"image_path": KEYS} | columns))
    return folder


TEXTS = ["ä", "b"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS, pa.large_string()), pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(), pa.array([t.encode() for t in TEXTS]),
        pa.array([t.encode() for t in TEXTS], pa.large_binary()),
    ],
)  # fmt: skip
def test_every_type_of_text_is_text(column: pa.Array) -> None:
    assert keys(column, "key", WHERE).to_pylist() == TEXTS
    assert text(pa.array([7, None]), "key", WHERE).to_pylist() == ["7", None]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([{"key": "a"}]), r"t.parquet: the column 'key' is struct<key: string>, no text"),
        (pa.array([["a"]]), "no text"), (pa.array([1.5]), "no text"), (pa.array([True]), "no text"),
        (pa.array([0], pa.date32()), "no text"), (pa.nulls(1), r"row 0 has no key \(key\)"),
        (pa.array(["a", None]), "row 1 has no key"),
        (pa.array([b"a", b"\xff"]), "row 1: the column 'key' is no text in UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_key_is_said_with_its_column_and_row(column: pa.Array, message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        keys(column, "key", WHERE)


def test_numbers_are_numbers() -> None:
    assert numbers(pa.array([1, None]), "s", WHERE).tolist()[0] == 1.0
    for column in (pa.array(["1"]), pa.array([True]), pa.array([{"a": 1.0}])):
        with pytest.raises(ClipshiftError, match=r"t.parquet: the column 's' is .*, no numbers"):
            numbers(column, "s", WHERE)


def test_text_that_is_no_utf_8_is_an_error_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_parquet(file, pa.table({"key": not_utf_8(KEYS)}))
    for read in (lambda: read_parquet(file), lambda: list(tables.rows_of(file))):
        with pytest.raises(
            ClipshiftError, match=r"a\.parquet is not a readable parquet file.*UTF8"
        ):
            read()


def test_values_that_python_has_no_object_for_are_an_error_of_their_file(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_parquet(file, pa.table({"filepath": pa.array([1 << 62], pa.timestamp("us"))}))
    with pytest.raises(ClipshiftError, match=r"a\.parquet is not a readable parquet file"):
        list(tables.rows_of(file))


def test_two_columns_of_a_name_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_parquet(file, pa.table([KEYS, KEYS], names=["key", "key"]))
    for read in (lambda: read_labels(file), lambda: read_parquet(file, ["key"])):
        with pytest.raises(ClipshiftError, match=r"a\.parquet: two columns are called 'key'"):
            read()


def test_a_field_of_lists_or_structures_is_no_text() -> None:
    columns = {"key": "k", "caption": "c"}
    assert fields_of({"k": 1, "c": ["a", "b"]}, columns) == {"key": "1", "caption": "a"}
    assert fields_of({"k": {"key": "1"}, "c": "a"}, columns) == "key is no text"
    assert fields_of({"k": ["1", "2"], "c": "a"}, columns) == "key is no text"


# ---- labels of others


def joined(tmp_path: Path, theirs: Path, column: Any = KEYS) -> dict[str, int]:
    pool, out = tmp_path / "pool/a.parquet", tmp_path / "labels.parquet"
    write_parquet(pool, pa.table({"key": column, "file_name": KEYS}))
    released(theirs.parent, [Subset(theirs.name, None)], pool.parent, out, join="file")
    return {r["key"]: r["label"] for r in read_labels(out).to_pylist()}


def theirs(tmp_path: Path, files: Any) -> Path:
    path = tmp_path / "r/nat.parquet"
    write_parquet(path, pa.table({"file_name": files, "label": [i % 3 for i in range(len(KEYS))]}))
    return path


def test_keys_of_a_pool_are_text(tmp_path: Path) -> None:
    wanted = {key: i % 3 for i, key in enumerate(KEYS)}
    given = theirs(tmp_path, pa.array([k.encode() for k in KEYS]))
    assert joined(tmp_path, given, pa.array([k.encode() for k in KEYS])) == wanted
    for column in ([{"key": k} for k in KEYS], [[k] for k in KEYS], [float(i) for i in range(40)]):
        with pytest.raises(ClipshiftError, match=r"a.parquet: the column 'key' is .*, no text"):
            joined(tmp_path, given, column)
    with pytest.raises(ClipshiftError, match="a row of its tables has no key"):
        joined(tmp_path, given, [None, *KEYS[1:]])
    with pytest.raises(ClipshiftError, match=r"nat.parquet: the column 'file_name' is .*, no text"):
        joined(tmp_path, theirs(tmp_path, [{"a": k} for k in KEYS]))


def test_texts_of_json_stay_as_they_are_spelled(tmp_path: Path) -> None:
    """No date, time or UUID is made of them."""
    names = ["2020-1-1", "01:02", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "007"]
    path = tmp_path / "r/nat.jsonl"
    path.parent.mkdir()
    for name in names:
        path.write_text(json.dumps({"file_name": name, "label": "natural", "box": [1]}) + "\n")
        pool = tmp_path / "pool/a.parquet"
        write_parquet(pool, pa.table({"key": ["k"], "file_name": [name]}))
        out = tmp_path / "labels.parquet"
        found = released(path.parent, [Subset("nat.jsonl", None)], pool.parent, out, join="file")
        assert found["pool"]["matched"] == 1, name
    with pytest.raises(ClipshiftError, match=r"the column 'box' is VARCHAR\[\], no text"):
        released(
            path.parent, [Subset("nat.jsonl", None)], pool.parent, out, join="file",
            columns={"file": "box"},
        )  # fmt: skip


def test_duckdb_says_which_of_several_files_is_damaged(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.parquet" for i in range(3)]
    for file in files:
        write_parquet(file, pa.table({"a": RNG.normal(size=5000)}))
    data = bytearray(files[1].read_bytes())
    data[4:64] = b"\xff" * 60
    files[1].write_bytes(data)
    damaged = pytest.raises(ClipshiftError, match=r"/1.parquet is not a readable")
    with database() as db, damaged, reading(files):
        db.execute(f"SELECT sum(a) FROM {parquet(files)}").fetchall()


# ---- vectors


def test_hashes_of_every_type_of_text_find_equal_images(tmp_path: Path) -> None:
    hashes = [f"{i:064x}" for i in range(40)]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        side = open_side("train", embedded(tmp_path / "e", sha256=pa.array(hashes).cast(kind)))
        assert side.twins()[hashes[7]] == [7]


def test_archives_of_objects_and_bombs_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, vectors=np.array([None, {}], object), keys=np.array(["a", "b"]))
    with pytest.raises(ClipshiftError, match="holds Python objects, which are not read"):
        as_folder(file, tmp_path / "out")
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("vectors.npy", "w", force_zip64=True) as stream,
    ):
        for _ in range(300):
            stream.write(bytes(1 << 20))
    with pytest.raises(ClipshiftError, match=r"vectors\.npy unpacks to 300 MiB, more than vectors"):
        as_folder(file, tmp_path / "out")
    file.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ClipshiftError, match=r"a\.npz is not a readable npz file"):
        as_folder(file, tmp_path / "out")


# ---- predictions


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("p.csv", b"key,label,label\na,1,1\n", "two columns are called 'label'"),
        ("p.csv.gz", gzip.compress(b"key,correct\na,1\n")[:-9] + b"\xff" * 9, "not a readable"),
        ("p.json", b"[" * 100_000, "not a readable json file"),
        ("p.csv", b"", "is empty"),
    ],
)
def test_predictions_that_are_none(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClipshiftError, match=message):
        read_predictions(tmp_path / name, ["a"], None)


def test_predictions_of_excel_and_keys_that_are_lists(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("key;correct\na;1\nb;0\n".encode("utf-16"))
    assert read_predictions(tmp_path / "p.csv", ["a", "b"], None).correct.tolist() == [True, False]
    write_parquet(tmp_path / "p.parquet", pa.table({"key": [["a", "b"]], "correct": [1]}))
    with pytest.raises(ClipshiftError, match=r"p.parquet: row 0: the key \['a', 'b'\] is a list"):
        read_predictions(tmp_path / "p.parquet", ["a"], None)


# ---- text


def test_names_of_columns_are_names_for_a_data_base(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"k\xff,b\0\nx,y\n")
    assert open_csv(tmp_path / "a.csv", lambda _: False).columns == ["k\\xff", "b\\x00"]


def test_a_first_row_that_is_no_row_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a.jpg,"one"two\n')
    with pytest.raises(ClipshiftError, match="which column holds the paths"):
        list(open_dataset(tmp_path / "a.csv", "table").all_records())


# ---- anything


def _embeddings(file: Path) -> None:
    folder = file.parent / "e"
    image, table = shard_paths(folder, "0")
    if not image.exists():
        embedded(folder)
    table.unlink()
    table.symlink_to(file)
    as_folder(folder, file.parent / "out")
    open_rows(folder, "0")
    open_side("train", folder)
    read_all(folder)
    index(str(folder), "image_path", file.parent / "index.parquet")


def _listed(file: Path) -> None:
    write_list("p", [file], ("url", "caption"), 1, file.parent / "list.parquet")
    read_shard(file.parent / "list.parquet", 0)


def _vectors(file: Path) -> None:
    np.save(file.with_name(f"{file.stem}_ids.npy"), KEYS)
    read_all(as_folder(file, file.parent / "out", normalise=True).folder)


def _written(path: Path, table: dict[str, Any]) -> bytes:
    write_parquet(path, pa.table(table))
    return path.read_bytes()


def _released(file: Path) -> None:
    pool = file.parent / "pool/a.parquet"
    write_parquet(pool, pa.table({"key": KEYS, "file_name": KEYS}))
    out = file.parent / "labels.parquet"
    released(file.parent, [Subset(file.name, None)], pool.parent, out, join="file")


def _text_table(rows: int) -> bytes:
    return ("url,caption\n" + "".join(f'http://a/{i},"a, {i}"\n' for i in range(rows))).encode()


READERS: dict[str, tuple[Callable[[Path], Any], str, Callable[[Path], bytes]]] = {
    "embeddings": (_embeddings, "m.parquet", lambda p: _written(p, {"image_path": KEYS})),
    "list": (_listed, "l.parquet",
             lambda p: _written(p, {"url": [f"http://a/{k}" for k in KEYS], "caption": KEYS})),
    "csv": (_listed, "l.csv", lambda p: _text_table(40)),
    "csv.gz": (_listed, "l.csv.gz", lambda p: gzip.compress(_text_table(40))),
    "npy": (_vectors, "v.npy", lambda p: (np.save(p, VECTORS), p.read_bytes())[1]),
    "npz": (_vectors, "v.npz",
            lambda p: (np.savez_compressed(p, emb=VECTORS, keys=KEYS), p.read_bytes())[1]),
    "lists": (_vectors, "v.parquet",
              lambda p: _written(p, {"key": KEYS, "emb": list(VECTORS.astype(np.float32))})),
    "labels": (read_labels, "t.parquet",
               lambda p: _written(p, {"key": KEYS, "label": [0, 1] * 20})),
    "released": (_released, "r.parquet",
                 lambda p: _written(p, {"file_name": KEYS, "label": [0, 1] * 20})),
    "predictions": (lambda p: read_predictions(p, KEYS, None), "p.parquet",
                    lambda p: _written(p, {"key": KEYS, "correct": [True, False] * 20})),
    "scores": (lambda p: sort_items([Item(k, p) for k in KEYS], p), "s.parquet",
               lambda p: _written(p, {"key": KEYS, "score": [0.5] * 40})),
    "table": (lambda p: list(open_dataset(p, "table").all_records()), "t.jsonl",
              lambda p: "".join(json.dumps({"image": f"{k}.jpg"}) + "\n" for k in KEYS).encode()),
}  # fmt: skip


def mutant(data: bytes, seed: int) -> bytes:
    """Bits turned, a part cut out, doubled or made zero, the end gone, or bytes after it."""
    rng = random.Random(seed)
    found, start = bytearray(data), rng.randrange(len(data))
    part = slice(start, start + rng.choice((1, 16, 256)))
    match seed % 6:
        case 0:
            for _ in range(rng.choice((1, 8, 64))):
                found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        case 1:
            del found[part]
        case 2:
            found[start:start] = found[part]
        case 3:
            found[part] = bytes(len(found[part]))
        case 4:
            del found[start:]
        case 5:
            found += rng.randbytes(rng.choice((1, 300)))
    return bytes(found)


@pytest.mark.parametrize("name", READERS)
def test_mutants_are_read_or_named(tmp_path: Path, name: str) -> None:
    read, file, make = READERS[name]
    path = tmp_path / file
    data = make(path)
    path.write_bytes(data)
    read(path)
    refused = 0
    for seed in range(48):
        path.write_bytes(mutant(data, seed))
        try:
            read(path)
        except ClipshiftError as error:
            refused += 1
            assert str(tmp_path) in str(error) or "holds no vectors" in str(error), error
    assert refused > 0


@pytest.mark.parametrize("name", READERS)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("node", ["pipe", "folder", "loop", "gone", "empty"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, node: str) -> None:
    read, file, make = READERS[name]
    path = tmp_path / file
    make(path)
    path.unlink(missing_ok=True)
    {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "gone": lambda: None,
        "empty": path.touch,
    }[node]()
    with pytest.raises(ClipshiftError):
        read(path)
