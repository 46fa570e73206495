"""Vectors in the files that people have become the same embedding folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.apps.audit.inputs import open_side
from clipshift.apps.margins import run as margins_run
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_parquet
from clipshift.similarity.embeddings import read_all
from clipshift.similarity.given import Names, as_folder
from tests.audit_case import folder
from tests.conftest import dump, unit

KEYS = [f"k{i}" for i in range(9)]
ROWS = unit(np.random.default_rng(0).normal(size=(9, 6)))


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def lists(kind: pa.DataType, rows: np.ndarray = ROWS) -> pa.Array:
    return pa.array(rows.astype(np.float32).tolist(), kind)


def write_txt(at: Path) -> Path:
    dump(at / "v.txt", "\n".join(KEYS) + "\n")
    return save(at / "v.npy", ROWS)


def write_csv(at: Path) -> Path:
    dump(at / "v.csv", "\ufeffn,key\n" + "".join(f"{i},{k}\n" for i, k in enumerate(KEYS)))
    return save(at / "v.npy", ROWS.astype(np.float32))


def write_named(at: Path) -> Path:
    dump(at / "other.csv", "".join(f"{k}\n" for k in KEYS))
    return Path(f"{save(at / 'v.npy', ROWS)}::{at / 'other.csv'}")


def write_npy_ids(at: Path) -> Path:
    save(at / "v_ids.npy", np.array(KEYS))
    return save(at / "v.npy", ROWS.astype(np.float64))


def write_bytes_ids(at: Path) -> Path:
    save(at / "ids.npy", np.array(KEYS, dtype="S"))
    return save(at / "v.npy", ROWS.astype(">f4"))


def write_datacomp(at: Path) -> Path:
    for name, part in (("00a", slice(0, 5)), ("00b", slice(5, 9))):
        at.mkdir(exist_ok=True)
        np.savez(at / f"{name}.npz", l14_img=ROWS[part], l14_txt=ROWS[part][::-1])
        write_parquet(at / f"{name}.parquet", pa.table({"uid": KEYS[part], "url": KEYS[part]}))
    return at


def write_npz_keys(at: Path) -> Path:
    at.mkdir()
    np.savez_compressed(at / "v.npz", embeddings=ROWS, keys=np.array(KEYS))
    return at / "v.npz"


def write_column(at: Path) -> Path:
    columns = {"image": ["x"] * 9, "id": KEYS, "embedding": lists(pa.list_(pa.float32()))}
    write_parquet(at / "train-00000-of-00001.parquet", pa.table(columns))
    return at


def write_fixed(at: Path) -> Path:
    column = lists(pa.list_(pa.float64(), 6))
    write_parquet(at / "a.parquet", pa.table({"uid": KEYS, "emb": column}))
    return at / "a.parquet"


def write_fortran(at: Path) -> Path:
    folder(at, {"2": ROWS[:4], "10": ROWS[4:]}, KEYS)
    save(at / "img_emb/img_emb_2.npy", np.asfortranarray(ROWS[:4]))
    save(at / "img_emb/img_emb_10.npy", ROWS[4:].astype(">f8"))
    return at


def write_uids(at: Path) -> Path:
    folder(at, {"0": ROWS}, KEYS)
    write_parquet(at / "metadata/metadata_0.parquet", pa.table({"uid": KEYS, "text": KEYS}))
    return at


WRITERS = [
    write_txt, write_csv, write_named, write_npy_ids, write_bytes_ids, write_datacomp,
    write_npz_keys, write_column, write_fixed, write_fortran, write_uids,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_vectors_from_every_file(tmp_path: Path, write: Any) -> None:
    given = write(tmp_path / "in")
    made = as_folder(given, tmp_path / "out")
    found = read_all(made.folder)
    assert found.keys == KEYS
    assert (found.vectors.astype(np.float32) == ROWS.astype(np.float32)).all()
    assert made.folder == tmp_path / "out"
    before = (made.folder / "made_of.json").stat().st_mtime_ns
    assert as_folder(given, tmp_path / "out").folder == made.folder
    assert (made.folder / "made_of.json").stat().st_mtime_ns == before
    assert open_side("train", made.folder).rows == 9


def test_a_plain_folder_stays_where_it_is_and_arrays_become_one(tmp_path: Path) -> None:
    plain = folder(tmp_path / "plain", {"0": ROWS}, KEYS)
    assert as_folder(plain, tmp_path / "out").folder == plain
    made = as_folder((ROWS, KEYS), tmp_path / "arrays").folder
    assert read_all(made).keys == KEYS
    other = as_folder((ROWS[::-1], KEYS), tmp_path / "arrays").folder
    assert (read_all(other).vectors == ROWS[::-1]).all()


def test_rows_are_normalised_on_request_only(tmp_path: Path) -> None:
    wide = ROWS.astype(np.float64) * np.arange(1, 10)[:, None] * 3.3
    given = folder(tmp_path / "in", {"0": wide.astype(np.float32)}, KEYS)
    with pytest.raises(ClipshiftError, match="--normalise"):
        read_all(as_folder(given, tmp_path / "out").folder)
    made = as_folder(given, tmp_path / "out", normalise=True).folder
    truth = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    assert np.abs(read_all(made).vectors - truth).max() < 1e-6
    double = save(tmp_path / "d/v.npy", wide / np.linalg.norm(wide, axis=1, keepdims=True))
    dump(tmp_path / "d/v.txt", "\n".join(KEYS))
    with pytest.raises(ClipshiftError, match=r"row 0 \(key 'k0'\) holds float64 .*--normalise"):
        as_folder(double, tmp_path / "o2")
    found = read_all(as_folder(double, tmp_path / "o2", normalise=True).folder).vectors
    assert (found.dtype, np.abs(found - truth).max() < 1e-7) == (np.float32, True)


def test_names_choose_among_several(tmp_path: Path) -> None:
    columns = {"a": lists(pa.list_(pa.float32())), "b": lists(pa.list_(pa.float32()), ROWS[::-1])}
    path = tmp_path / "t.parquet"
    write_parquet(path, pa.table(columns | {"name": KEYS, "word": KEYS[::-1]}))
    with pytest.raises(ClipshiftError, match="--vectors NAME"):
        as_folder(path, tmp_path / "out")
    found = read_all(as_folder(path, tmp_path / "out", names=Names("b", "word")).folder)
    assert found.keys == KEYS[::-1] and (found.vectors == ROWS[::-1]).all()
    with pytest.raises(ClipshiftError, match="has no column of keys 'nothing'"):
        as_folder(path, tmp_path / "out", names=Names("b", "nothing"))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    cases: list[tuple[Path, str]] = []
    cases.append((save(tmp_path / "a/v.npy", ROWS), "has no keys: lay a file"))
    dump(tmp_path / "b/v.txt", "x\ny\n")
    cases.append((save(tmp_path / "b/v.npy", ROWS), "2 keys, but 9 vectors"))
    cases.append((dump(tmp_path / "c/v.npy", "version https://git-lfs.github.com"), "git lfs pull"))
    cases.append((dump(tmp_path / "d/v.npz", "<html></html>"), "web page"))
    cases.append((dump(tmp_path / "e/v.parquet", ""), "is empty"))
    cases.append((dump(tmp_path / "f/readme.md", "x").parent, "holds no vectors"))
    cases.append((tmp_path / "gone", "is not there"))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    cases.append((tmp_path / "o.npy", "Python objects"))
    ragged = pa.array([[1.0, 0.0], [1.0]], pa.list_(pa.float32()))
    write_parquet(tmp_path / "r.parquet", pa.table({"key": ["a", "b"], "emb": ragged}))
    cases.append((tmp_path / "r.parquet", "row 1 has no vector of 2"))
    null = pa.table({"key": ["a", None], "emb": pa.array([[1.0], [1.0]], pa.list_(pa.float32()))})
    write_parquet(tmp_path / "n.parquet", null)
    cases.append((tmp_path / "n.parquet", "row 1 has no key"))
    cases.append((dump(tmp_path / "x.h5", "x"), "h5py is not installed|not a readable HDF5"))
    missing = folder(tmp_path / "m", {"0": ROWS}, KEYS)
    (missing / "metadata/metadata_0.parquet").rename(missing / "metadata/metadata_0000.parquet")
    cases.append((missing, r"metadata_0\.parquet is missing"))
    empty = pa.table({"key": ["a", "b"], "emb": pa.array([[], []], pa.list_(pa.float32()))})
    write_parquet(tmp_path / "z.parquet", empty)
    cases.append((tmp_path / "z.parquet", "row 0 has no vector of 0"))
    for given, message in cases:
        with pytest.raises(ClipshiftError, match=message):
            as_folder(given, tmp_path / "out")


def test_margins_take_arrays_and_refuse_double_and_missing_keys(tmp_path: Path) -> None:
    tests = (ROWS[:3], KEYS[:3])
    record = margins_run.margins((ROWS, KEYS), {"t": tests}, (ROWS[3:], KEYS[3:]), tmp_path / "o",
                                 "cpu")  # fmt: skip
    assert record["rows"] == 9
    assert margins_run.verify(tmp_path / "o", 100, 0)["points"] == 9
    double = folder(tmp_path / "d", {"0": ROWS[:4], "1": ROWS[4:]}, [*KEYS[:8], "k0"])
    with pytest.raises(ClipshiftError, match="'k0' occurs twice"):
        margins_run.margins(double, {"t": tests}, tests, tmp_path / "p", "cpu")
    null = folder(tmp_path / "n", {"0": ROWS[:2]}, ["a", None])  # type: ignore[list-item]
    for name, pool, test in (("q", null, tests), ("r", tests, null)):
        with pytest.raises(ClipshiftError, match="row 1 has no key"):
            margins_run.margins(pool, {"t": test}, tests, tmp_path / name, "cpu")
    assert json.loads((tmp_path / "o/run.json").read_text())["pool"].endswith("given/pool")
