"""The filter lets pass exactly what the copy holds: keys, captions and bytes of the images."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_parquet
from clipshift.datasets import external_pool
from clipshift.datasets.tars import read_tar
from clipshift.study.config.trainings import Training
from clipshift.training.clip import Filtered, arguments, filtered
from clipshift.training.launch import copy_shards
from clipshift.training.local_copy import copy_split
from clipshift.training.shards import Shards
from clipshift.training.tar_filter import prepare
from tests.folder_case import write_pool, write_set


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    """A folder pool of two groups with a gap, a reference set, and a split of every third point."""
    data = tmp_path / "data"
    write_pool(data / "web", {0: 4, 1: 3, 3: 5})
    write_set(data / "ref", [0, 1, 1], split="train", seed=90)
    tables = []
    for shard, numbers in enumerate(([0, 1], [2, 3])):
        tables.append(tmp_path / f"pools/{shard:05d}.parquet")
        external_pool.write_group("w", [data / f"web/{i:05d}.tar" for i in numbers], tables[-1])
    keys = [k for table in tables for k in read_parquet(table)["key"].to_pylist()]
    rows = [{"key": k, "kept": i % 3 == 0, "reason": "kept"} for i, k in enumerate(keys)]
    rows += [{"key": f"train90s{i:04d}", "kept": True, "reason": "reference"} for i in range(3)]
    split = tmp_path / "split.parquet"
    write_parquet(split, pa.Table.from_pylist(sorted(rows, key=lambda row: row["key"])))
    return {"data": data, "tables": tables, "split": split}


def passed(path: Path) -> dict[str, dict[str, bytes]]:
    """Samples of all tars of a list, by key."""
    shards = Shards(path)
    found: dict[str, dict[str, bytes]] = {}
    rows = []
    for sample in shards.source({"url": name} for name in shards.names):
        key = sample.pop("__key__")
        rows.append(sample.pop("__row__"))
        assert key not in found
        found[key] = sample
    assert sorted(rows) == list(range(shards.rows))
    return found


def test_filter_passes_what_the_copy_holds(study: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    how = Filtered(list(study["tables"]), tmp_path / "names.txt", "a photo of a {class}")
    words = ["data:web/{00000..00004}.tar", "data:ref/train"]
    path, count = filtered(study["split"], words, study["data"], how, tmp_path / "work")
    found = passed(path)
    assert count == len(found) == 4 + 3
    own = {key: parts for key, parts in found.items() if not key.startswith("train")}

    pool_only = tmp_path / "pool_only.parquet"
    table = read_parquet(study["split"])
    write_parquet(pool_only, table.filter(pa.compute.equal(table["reason"], "kept")))
    tars = sorted((study["data"] / "web").glob("*.tar"))
    copy_split(pool_only, tars, None, 0, tmp_path / "copy")
    copied = {s.key: s.parts for f in (tmp_path / "copy").glob("*.tar") for s in read_tar(f)}
    assert own == copied

    labelled = {k: p for k, p in found.items() if k.startswith("train")}
    assert {k: p["txt"] for k, p in labelled.items()} == {
        "train90s0000": b"a photo of a cat",
        "train90s0001": b"a photo of a dog",
        "train90s0002": b"a photo of a dog",
    }
    originals = {s.key: s.parts for i in range(2)
                 for s in read_tar(study["data"] / f"ref/train/{i}.tar")}  # fmt: skip
    assert all(parts["jpg"] == originals[key]["jpg"] for key, parts in labelled.items())


def test_prepare_refuses_what_it_cannot_find(study: dict[str, Any], tmp_path: Path) -> None:
    tars = sorted((study["data"] / "web").glob("*.tar"))
    assert prepare(study["split"], study["tables"], tars, tmp_path / "a") == 7
    with pytest.raises(ClipshiftError, match=r"00003\.tar, which is not there"):
        prepare(study["split"], study["tables"], tars[:2], tmp_path / "b")
    with pytest.raises(ClipshiftError, match="keeps 7 samples, of which 1 are in none of the 1"):
        prepare(study["split"], study["tables"][:1], tars, tmp_path / "c")


def test_batch_and_shards_are_shared_by_the_gpus(tmp_path: Path) -> None:
    training = Training(model={}, samples=64, batch=16, gpus=4)
    words = arguments("s-m-s0", training, 0, Path("x.json"), 16, tmp_path)
    assert words[words.index("--batch-size") + 1] == "4"
    assert (copy_shards(training), copy_shards(Training(model={}, samples=1))) == (16, 8)
