"""Embedding folders: what is read is what was written, or an error that says what is wrong."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_npy, write_parquet
from clipshift.similarity.embeddings import (
    list_shards,
    read_all,
    read_shard,
    shard_paths,
    write_shard,
)
from tests.conftest import tied_vectors


def write(folder: Path, shard: str, vectors: np.ndarray, keys: list[str] | None = None) -> None:
    """Write a shard without the checks of `write_shard`, as another tool might."""
    image, table = shard_paths(folder, shard)
    names = keys if keys is not None else [f"{shard}-{i}" for i in range(len(vectors))]
    write_npy(image, vectors)
    write_parquet(table, pa.table({"image_path": pa.array(names, pa.string())}))


def test_round_trip(tmp_path: Path) -> None:
    vectors = tied_vectors(0, 7)
    metadata = pa.table({"image_path": list("gfedcba"), "caption": ["x"] * 7})
    write_shard(tmp_path, "00000", vectors.astype(np.float64), metadata)
    for mmap in (False, True):
        found = read_shard(tmp_path, "00000", mmap=mmap)
        np.testing.assert_array_equal(found.vectors, vectors)
        assert found.vectors.dtype == np.float16
        assert found.keys == list("gfedcba")


def test_float32_embeddings_of_another_tool(tmp_path: Path) -> None:
    vectors = tied_vectors(0, 4).astype(np.float32)
    write(tmp_path, "0", vectors)
    assert read_all(tmp_path).vectors.dtype == np.float32


def bad_row(value: float) -> np.ndarray:
    vectors = tied_vectors(0, 5)
    vectors[3] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (bad_row(np.nan), r"1 rows hold a NaN.*row 3 \(key '0-3'"),
        (bad_row(np.inf), r"1 rows hold a NaN or infinite vector.*row 3"),
        (bad_row(0), "1 rows hold a vector of norm zero.*row 3"),
        (bad_row(1), "1 rows hold a vector not L2-normalised.*row 3"),
        (tied_vectors(0, 5).astype(np.float64), "float16 or float32, found.*float64"),
        (np.ones((5, 1), np.int8), "int8"),
        (tied_vectors(0, 5)[0], "expected"),
    ],
)
def test_unfit_vectors_are_refused(tmp_path: Path, vectors: np.ndarray, message: str) -> None:
    write(tmp_path, "0", vectors)
    with pytest.raises(ClipshiftError, match=rf"img_emb_0\.npy.*{message}"):
        read_shard(tmp_path, "0")


def test_unfit_vectors_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="not L2-normalised"):
        write_shard(tmp_path, "0", bad_row(1), pa.table({"image_path": list("abcde")}))
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("rows", [4, 6])
def test_row_counts_must_agree(tmp_path: Path, rows: int) -> None:
    write(tmp_path, "0", tied_vectors(0, 5), [str(i) for i in range(rows)])
    with pytest.raises(ClipshiftError, match=f"5 vectors, but {rows} rows"):
        read_shard(tmp_path, "0")


def test_key_that_occurs_twice(tmp_path: Path) -> None:
    write(tmp_path, "0", tied_vectors(0, 3), ["a", "b", "a"])
    with pytest.raises(ClipshiftError, match="'a' occurs twice"):
        read_shard(tmp_path, "0")


def test_key_in_two_shards(tmp_path: Path) -> None:
    write(tmp_path, "0", tied_vectors(0, 2), ["a", "b"])
    write(tmp_path, "1", tied_vectors(0, 2), ["c", "b"])
    with pytest.raises(ClipshiftError, match="'b' occurs twice"):
        read_all(tmp_path)


def test_mixed_dimensions(tmp_path: Path) -> None:
    write(tmp_path, "0", tied_vectors(0, 2, d=4))
    write(tmp_path, "1", tied_vectors(0, 2, d=5))
    with pytest.raises(ClipshiftError, match=r"dimensions \[4, 5\]"):
        read_all(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 90, 150])
def test_truncated_npy(tmp_path: Path, size: int) -> None:
    write(tmp_path, "0", tied_vectors(0, 20))
    image, _ = shard_paths(tmp_path, "0")
    image.write_bytes(image.read_bytes()[:size])
    for mmap in (False, True):
        with pytest.raises(ClipshiftError, match=r"img_emb_0\.npy is not a readable npy"):
            read_shard(tmp_path, "0", mmap=mmap)


def test_pickled_npy_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "0", tied_vectors(0, 2))
    np.save(shard_paths(tmp_path, "0")[0], np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(ClipshiftError, match="not a readable npy"):
        read_shard(tmp_path, "0")


def test_shards_come_in_natural_order(tmp_path: Path) -> None:
    for shard in ("10", "9", "0", "100"):
        write(tmp_path, shard, tied_vectors(int(shard), 1))
    assert list_shards(tmp_path) == ["0", "9", "10", "100"]
    assert read_all(tmp_path).keys == ["0-0", "9-0", "10-0", "100-0"]


def test_folder_without_embeddings(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="no img_emb"):
        read_all(tmp_path)


def test_metadata_without_keys(tmp_path: Path) -> None:
    write(tmp_path, "0", tied_vectors(0, 2))
    write_parquet(shard_paths(tmp_path, "0")[1], pa.table({"path": ["a", "b"]}))
    with pytest.raises(ClipshiftError, match=r"metadata_0\.parquet lacks.*image_path"):
        read_shard(tmp_path, "0")


def test_a_shard_without_its_vectors_is_not_lost(tmp_path: Path) -> None:
    for shard in ("0", "1"):
        metadata = pa.table({"image_path": [f"{shard}-{i}" for i in range(3)]})
        write_shard(tmp_path, shard, np.eye(3), metadata)
    assert list_shards(tmp_path) == ["0", "1"]
    shard_paths(tmp_path, "1")[0].unlink()
    with pytest.raises(ClipshiftError, match=r"metadata_1\.parquet has no vectors.*img_emb_1\.npy"):
        list_shards(tmp_path)
