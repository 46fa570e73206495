"""The studies of `examples/`: short, planned whole, and one small target of each for real."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clipshift.core.files import read_json, read_parquet
from clipshift.similarity.embeddings import write_shard
from clipshift.study.config.load import load
from tests.conftest import photo, unit
from tests.folder_case import write_pool, write_set
from tests.workflow.runner import ROOT, changed_config, planned, snakemake

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
# Sizes of the data that the tests write, in place of those of the examples.
TARS = {0: 4, 1: 3, 3: 5}
SIZES = {
    "pools.web.tars": 4, "pools.web.shards": 1, "pools.web.samples": 12,
    "sets.labelled.samples": 6, "sets.labelled.classes": 2,
}  # fmt: skip
KEYS = [f"{tar:05d}{i:04d}" for tar, count in TARS.items() for i in range(count)]


def write_data(data: Path, *tests: str) -> dict[str, Any]:
    """A pool, a reference set and test sets; the changes of an example that fit them."""
    write_pool(data / "web", TARS)
    write_set(data / "labelled", [0, 1] * 3, split="train", seed=50)
    for seed, name in enumerate(tests):
        write_set(data / name, [0, 1, 1, 0], seed=60 + 10 * seed)
    sizes = [{f"sets.{name}.samples": 4, f"sets.{name}.classes": 2} for name in tests]
    return SIZES | {key: value for size in sizes for key, value in size.items()}


def run(folder: Path, example: str, changes: Mapping[str, Any], *splits: str) -> dict[str, Any]:
    """Split -> its counts, made for real from an example with some keys changed."""
    config = changed_config(folder, dict(changes), ROOT / f"examples/{example}.yaml")
    snakemake(folder, *(f"results/splits/{name}.parquet" for name in splits), config=config)
    return {name: read_json(folder / f"results/splits/{name}.json") for name in splits}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_planned_whole(path: Path, tmp_path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    assert path.stem == load(path).study
    assert path.name in (path.parent / "README.md").read_text()
    jobs = planned(tmp_path, config=path)
    assert jobs["train"] == len(load(path).trained)


def test_own_images(tmp_path: Path) -> None:
    changes = write_data(tmp_path / "data", "photos", "sketches") | {"encoders.lite0.px": 32}
    made = run(tmp_path, "own_images", changes, "pruned_photos", "rand_as_pruned_photos")
    pruned, rand = made.values()
    assert pruned["in"] == len(KEYS) + 6
    assert pruned["points_kept"] == rand["points_kept"]


def test_own_photos(tmp_path: Path) -> None:
    for seed, (name, count) in enumerate({"photos": 6, "labelled": 3, "sketches": 2}.items()):
        for place in (tmp_path / "data" / name / folder for folder in ("cat", "dog")):
            place.mkdir(parents=True)
            for i in range(count):
                image = photo(100 * seed + 10 * (place.name == "dog") + i)
                (place / f"{place.name} {i}.JPG").write_bytes(image)
    changes = {
        "encoders.lite0.px": 32, "pools.photos.samples": 12,
        "sets.labelled.samples": 6, "sets.labelled.classes": 2,
        "sets.sketches.samples": 4, "sets.sketches.classes": 2,
    }  # fmt: skip
    made = run(tmp_path, "own_photos", changes, "pruned_sketches", "rand_as_pruned")
    pruned, rand = made.values()
    assert pruned["in"] == 12 + 6
    assert pruned["points_kept"] == rand["points_kept"]
    rows = [
        row
        for table in sorted(tmp_path.glob("results/pools/photos/*.parquet"))
        for row in read_parquet(table).to_pylist()
    ]
    assert sorted({row["caption"] for row in rows}) == ["a photo of a cat", "a photo of a dog"]


def test_own_embeddings(tmp_path: Path) -> None:
    changes = write_data(tmp_path / "data", "val")
    keys = {
        "web": KEYS,
        "labelled": [f"train50s{i:04d}" for i in range(6)],
        "val": [f"test60s{i:04d}" for i in range(4)],
    }
    for seed, (name, own) in enumerate(keys.items()):
        vectors = unit(np.random.default_rng(seed).normal(size=(len(own), 8)))
        table = pa.table({"image_path": own})
        write_shard(tmp_path / "data/embeddings" / name, "0", vectors.astype(np.float16), table)
    made = run(tmp_path, "own_embeddings", changes, "near_50", "pruned_val", "rand_as_pruned")
    assert made["near_50"]["points_kept"] == made["near_50"]["candidates"] // 2
    assert made["pruned_val"]["points_kept"] == made["rand_as_pruned"]["points_kept"]
    assert not list(tmp_path.glob("results/**/*.tar"))  # no image was read


def test_sweep(tmp_path: Path) -> None:
    """Fruit alone, nothing embedded."""
    changes = {"dedup": {"rule": "none", "embed": False}, "sources.color.only": "/1F34"}
    made = run(tmp_path, "sweep", changes, "rand_50", "rand_25")
    points = made["rand_50"]["candidates"]
    assert points > 8
    assert [made[name]["points_kept"] for name in made] == [points // 2, points // 4]
