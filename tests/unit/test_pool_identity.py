"""What a pool's samples are called: its own uids in exports, real tars, and keys only once."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.apps.margins.run import margins
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_npy, write_parquet
from clipshift.datasets import external_pool
from clipshift.similarity.embeddings import shard_paths
from clipshift.splits import split
from clipshift.splits.recipes.full import Full
from clipshift.splits.split import Scores
from clipshift.study.config.recipe_base import Margins
from tests.conftest import unit
from tests.folder_case import write_pool


def pool(folder: Path, tars: dict[int, int], uids: list[Any] | None) -> list[Path]:
    """A folder of img2dataset's in groups of two tars; the tables may have DataComp's `uid`."""
    write_pool(folder / "web", tars)
    given = iter(uids or [])
    for file in sorted((folder / "web").glob("*.parquet")):
        if uids is not None:
            table = pq.read_table(file)
            good = [status == "success" for status in table["status"].to_pylist()]
            column = pa.array([next(given) if ok else "failed" for ok in good], pa.string())
            pq.write_table(table.append_column("uid", column), file)
    tables = []
    numbers = sorted(tars)
    for group in range(0, len(numbers), 2):
        tables.append(folder / f"pools/{group // 2:05d}.parquet")
        paths = [folder / f"web/{i:05d}.tar" for i in numbers[group : group + 2]]
        external_pool.write_group("w", paths, tables[-1])
    return tables


def full(folder: Path, tables: list[Path]) -> dict[str, Any]:
    """The counts of a split that keeps all."""
    scores = Scores(tables, tables, Margins({}, {}), [], Margins({}, {}))
    split.make(Full(recipe="full", reference=False), scores, folder / "s.parquet")
    found: dict[str, Any] = read_json(folder / "s.json")
    return found


def resharded(subset: np.ndarray, uid: str) -> bool:
    """Whether DataComp's resharder finds a uid: a binary search for its two numbers."""
    pair = np.array((int(uid[:16], 16), int(uid[16:32], 16)), dtype="u8,u8")
    at = int(np.searchsorted(subset, pair))
    return at < len(subset) and bool(subset[at] == pair)


def test_subset_holds_the_uids_of_the_pool(tmp_path: Path) -> None:
    uids = [f"{(0xF0 - 7 * i) << 100 | i:032x}" for i in range(5)]
    tables = pool(tmp_path, {0: 2, 1: 1, 3: 2}, [uids[0].upper(), *uids[1:]])
    counts = full(tmp_path, tables)
    assert counts["subset"] == {
        "ids": "uid of the pool", "entries": 5, "repeats": 0, "without_id": 0,
    }  # fmt: skip
    subset = np.load(tmp_path / "s.subset_u8u8.npy")
    assert subset.tolist() == sorted((int(u[:16], 16), int(u[16:], 16)) for u in uids)
    assert all(resharded(subset, uid) for uid in uids) and not resharded(subset, "0" * 32)
    assert sorted(read_parquet(tmp_path / "s.parquet")["uid"].to_pylist()) == sorted(uids)


def test_uids_that_repeat_or_are_missing_are_counted(tmp_path: Path) -> None:
    """An entry that occurs twice would be a weight of two."""
    uid = "0" * 31 + "1"
    tables = pool(tmp_path, {0: 3}, [uid, uid, None])
    assert full(tmp_path, tables)["subset"] == {
        "ids": "uid of the pool", "entries": 1, "repeats": 1, "without_id": 1,
    }  # fmt: skip
    assert np.load(tmp_path / "s.subset_u8u8.npy").tolist() == [(0, 1)]


def test_uids_that_are_none_are_refused(tmp_path: Path) -> None:
    tables = pool(tmp_path, {0: 2}, ["0" * 32, "77"])
    with pytest.raises(ClipshiftError, match=r"the uid '77' of the sample .* not 32 hex digits"):
        full(tmp_path, tables)


def test_without_uids_the_subset_says_so(tmp_path: Path) -> None:
    assert full(tmp_path, pool(tmp_path, {0: 2}, None))["subset"]["ids"] == (
        "hashes of URLs: the pool has no uid"
    )


def test_sizes_are_of_the_real_tars(tmp_path: Path) -> None:
    """A table of a folder covers several tars, also empty ones."""
    full(tmp_path, pool(tmp_path, {0: 2, 1: 0, 2: 3, 3: 1, 5: 4}, None))
    sizes = read_json(tmp_path / "s.sizes.json")
    assert sizes == {"00000.tar": 2, "00002.tar": 3, "00003.tar": 1, "00005.tar": 4}


def joined_downloads(folder: Path, tars: list[int]) -> list[Path]:
    """Two downloads in one folder: both begin with the same keys."""
    write_pool(folder / "web", dict.fromkeys(tars, 2))
    for tar in tars:
        file = folder / f"web/{tar:05d}.parquet"
        rows = pq.read_table(file).to_pylist()
        keys = [{"key": f"{i:09d}"} for i in range(len(rows))]
        write_parquet(file, pa.Table.from_pylist([r | k for r, k in zip(rows, keys, strict=True)]))
    return [folder / f"web/{tar:05d}.tar" for tar in tars]


def test_equal_keys_of_two_downloads_name_both_tars(tmp_path: Path) -> None:
    tars = joined_downloads(tmp_path, [0, 1, 2])
    said = r"web/00000\.tar and .*/web/00001\.tar: the key '000000000' occurs twice"
    with pytest.raises(ClipshiftError, match=said):
        external_pool.write_group("w", tars[:2], tmp_path / "pools/00000.parquet")
    tables = [tmp_path / f"pools/{i:05d}.parquet" for i in (0, 1)]
    for table, tar in zip(tables, tars[1:], strict=True):
        external_pool.write_group("w", [tar], table)
    said = r"00001\.tar of .*pools/00000\.parquet and 00002\.tar of .*pools/00001\.parquet: the key"
    with pytest.raises(ClipshiftError, match=said):
        full(tmp_path, tables)


def embeddings(folder: Path, *parts: list[str | None]) -> Path:
    for part, keys in enumerate(parts):
        image, metadata = shard_paths(folder, str(part))
        vectors = np.random.default_rng(part).normal(size=(len(keys), 8))
        write_npy(image, unit(vectors).astype(np.float16))
        write_parquet(metadata, pa.table({"image_path": pa.array(keys, pa.string())}))
    return folder


def test_margins_of_keys_that_are_none_or_twice(tmp_path: Path) -> None:
    good = embeddings(tmp_path / "good", ["x", "y", "z"])
    twice = embeddings(tmp_path / "twice", ["a", "b"], ["c", "a"])
    null = embeddings(tmp_path / "null", ["a", None])
    with pytest.raises(ClipshiftError, match=r"metadata_0\.parquet and .*metadata_1\.parquet.*'a'"):
        margins(twice, {"t": good}, good, tmp_path / "one", device="cpu")
    for name, pool_, test in (("two", good, null), ("three", null, good)):
        with pytest.raises(ClipshiftError, match=r"_0\.(npy|parquet).*row 1"):
            margins(pool_, {"t": test}, good, tmp_path / name, device="cpu")
