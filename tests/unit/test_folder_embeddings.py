"""Embeddings that the user has: joined by key or URL, never by position; bad vectors counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_npy, write_parquet
from clipshift.datasets.shards import SAMPLE_SCHEMA
from clipshift.similarity.embeddings import read_shard, shard_paths
from clipshift.similarity.external_embeddings import index, pick
from tests.conftest import unit

N, D = 50, 8
KEYS = [f"{i:09d}" for i in range(N)]
VECTORS = unit(np.random.default_rng(0).normal(size=(N, D)))


def write_table(path: Path, keys: list[str]) -> Path:
    rows = [
        dict.fromkeys(SAMPLE_SCHEMA.names)
        | {"key": k, "caption": f"c{k}", "url_hash": f"u{k}", "sha256": f"s{k}"}
        | {"locator": f"http://x/{k}", "held_out": False}
        for k in keys
    ]
    write_parquet(path, pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA))
    return path


def write_parts(folder: Path, vectors: np.ndarray, seed: int = 1, **columns: list[Any]) -> Path:
    """Three unpadded parts of shuffled rows, the second empty."""
    order = np.random.default_rng(seed).permutation(len(vectors))
    names = columns or {"image_path": KEYS}
    for part, mine in enumerate((order[:20], order[:0], order[20:])):
        image, metadata = shard_paths(folder, str(9 * part))
        write_npy(image, vectors[mine])
        table = {n: pa.array(values).take(pa.array(mine)) for n, values in names.items()}
        write_parquet(metadata, pa.table(table))
    return folder


def run(folder: Path, tmp_path: Path, keys: list[str], join: str = "image_path") -> Any:
    out = tmp_path / "out"
    index(str(folder), join, out / "index.parquet")
    table = write_table(tmp_path / "table.parquet", keys)
    pick(str(folder), out / "index.parquet", table, "00000", out)
    return StepCounts.from_json(read_json(out / "account/account_00000.json"))


@pytest.mark.parametrize("join", ["image_path", "url"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_find_their_vectors(tmp_path: Path, join: str, dtype: Any) -> None:
    """Whatever the order of rows and parts; samples without a vector are counted."""
    names = {join: KEYS if join == "image_path" else [f"http://x/{k}" for k in KEYS]}
    folder = write_parts(tmp_path / "e", VECTORS.astype(dtype), **names)
    step_counts = run(folder, tmp_path, [*KEYS[10:30], "none of it"], join)
    assert (step_counts.came_in, step_counts.went_out) == (21, 20)
    assert step_counts.rejected == {"no vector in the folder": 1}
    found = read_shard(tmp_path / "out", "00000")
    assert found.keys == KEYS[10:30]
    assert found.vectors.dtype == np.float16
    np.testing.assert_array_equal(found.vectors, VECTORS.astype(dtype)[10:30].astype(np.float16))
    metadata = pq.read_table(shard_paths(tmp_path / "out", "00000")[1]).to_pylist()
    assert [row["caption"] for row in metadata] == [f"c{k}" for k in KEYS[10:30]]
    about = read_json(tmp_path / "out/index.json")
    assert (about["parts"], about["vectors"], about["dimension"]) == (["0", "9", "18"], N, D)


def test_the_same_bytes_from_another_order(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = write_parts(tmp_path / f"e{seed}", VECTORS, seed)
        run(folder, tmp_path / str(seed), KEYS)
    for name in ("img_emb/img_emb_00000.npy", "metadata/metadata_00000.parquet"):
        a, b = ((tmp_path / seed / "out" / name).read_bytes() for seed in ("1", "2"))
        assert a == b


def test_bad_vectors_are_counted_and_left_out(tmp_path: Path) -> None:
    bad = VECTORS.copy()
    bad[3], bad[4], bad[5, 0], bad[6] = np.nan, 0, np.inf, 0.5
    step_counts = run(write_parts(tmp_path / "e", bad), tmp_path, KEYS)
    assert step_counts.rejected == {
        "NaN or infinite vector": 2, "vector of norm zero": 1, "vector not L2-normalised": 1,
    }  # fmt: skip
    assert read_shard(tmp_path / "out", "00000").keys == [*KEYS[:3], *KEYS[7:]]


def test_a_join_that_finds_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"none of the 2 samples.*joined by image_path"):
        run(write_parts(tmp_path / "e", VECTORS), tmp_path, ["x", "y"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: write_parts(f, VECTORS, image_path=[*KEYS[:-1], KEYS[0]]), "occurs twice"),
        (lambda f: write_parts(f, VECTORS, url=KEYS), "lacks the column 'image_path'"),
        (lambda f: shard_paths(f, "9")[1].unlink(), "metadata_9.parquet is missing"),
        (lambda f: write_npy(shard_paths(f, "9")[0], VECTORS[:3]), "3 vectors, but 0 rows"),
        (lambda f: write_npy(shard_paths(f, "9")[0], np.zeros((0, 3), np.float16)), "dimensions"),
        (lambda f: shard_paths(f, "9")[0].write_bytes(b"torn"), "not a readable npy"),
        (lambda f: shard_paths(f, "9")[1].write_bytes(b"torn"), "not a readable parquet"),
    ],
)
def test_faults_name_the_file(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = write_parts(tmp_path / "e", VECTORS)
    spoil(folder)
    with pytest.raises(ClipshiftError, match=message):
        index(str(folder), "image_path", tmp_path / "index.parquet")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="is no folder"):
        index(str(tmp_path / "nowhere"), "image_path", tmp_path / "index.parquet")


def one_part(folder: Path, vectors: np.ndarray, **columns: list[Any]) -> Path:
    image, metadata = shard_paths(folder, "0")
    write_npy(image, vectors)
    write_parquet(metadata, pa.table(columns))
    return folder


def test_published_urls_with_two_captions(tmp_path: Path) -> None:
    """LAION's embeddings: a caption decides; a repeat that none decides is left out and counted."""
    urls = [f"http://x/{k}" for k in KEYS[:4]]
    folder = one_part(
        tmp_path / "e", VECTORS[:6], url=[*urls, urls[1], urls[2]],
        caption=[*(f"c{k}" for k in KEYS[:4]), "another", f"c{KEYS[2]}"],
    )  # fmt: skip
    step_counts = run(folder, tmp_path, KEYS[:4], "url")
    assert read_shard(tmp_path / "out", "00000").keys == [KEYS[0], KEYS[1], KEYS[3]]
    assert step_counts.rejected == {"url is there several times": 1}
    about = read_json(tmp_path / "out/index.json")
    assert (about["vectors"], about["repeats"], about["without_url"]) == (6, 2, 0)
    joined = read_json(tmp_path / "out/account/account_00000.json")["joined"]
    assert joined["witnesses"] == {"caption": {"agree": 3, "differ": 0, "share": 1.0}}


def test_keys_of_another_download_are_refused(tmp_path: Path) -> None:
    """The same keys, other samples."""
    folder = one_part(tmp_path / "e", VECTORS, image_path=KEYS, caption=["x"] * N)
    with pytest.raises(ClipshiftError, match=r"of 50 rows joined by key, only 0 .*caption"):
        run(folder, tmp_path, KEYS)


def test_a_key_in_two_parts_names_both_files(tmp_path: Path) -> None:
    for part in ("0", "1"):
        image, metadata = shard_paths(tmp_path / "e", part)
        write_npy(image, VECTORS[:1])
        write_parquet(metadata, pa.table({"image_path": ["k"]}))
    with pytest.raises(ClipshiftError, match=r"metadata_0\.parquet and metadata_1\.parquet.*'k'"):
        index(str(tmp_path / "e"), "image_path", tmp_path / "index.parquet")
    write_parquet(shard_paths(tmp_path / "e", "1")[1], pa.table({"image_path": [None]}))
    with pytest.raises(ClipshiftError, match=r"metadata_1\.parquet: image_path is null"):
        index(str(tmp_path / "e"), "image_path", tmp_path / "index.parquet")


def test_a_uid_is_a_witness(tmp_path: Path) -> None:
    """DataComp's: of the same keys in two downloads it knows which is which."""
    folder = one_part(tmp_path / "e", VECTORS, image_path=KEYS, uid=[f"{i:032x}" for i in range(N)])
    index(str(folder), "image_path", tmp_path / "index.parquet")
    table = pq.read_table(write_table(tmp_path / "table.parquet", KEYS))
    for shift, fine in ((0, True), (1, False)):
        uids = pa.array([f"{i + shift:032X}" for i in range(N)])
        write_parquet(tmp_path / "table.parquet", table.append_column("uid", uids))
        files = (tmp_path / "index.parquet", tmp_path / "table.parquet")
        if fine:
            pick(str(folder), *files, "00000", tmp_path / "out")
            continue
        with pytest.raises(ClipshiftError, match="only 0 have the same uid"):
            pick(str(folder), *files, "00000", tmp_path / "out")
