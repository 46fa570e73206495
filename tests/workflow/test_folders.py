"""A study on folders that the user has: from img2dataset's tars to a split, by real Snakemake."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from clipshift.core.files import read_json, read_parquet
from clipshift.similarity.embeddings import read_all, write_shard
from tests.folder_case import write_pool, write_set
from tests.workflow.runner import digests, planned, snakemake

STUDY: dict[str, Any] = {
    "study": "folders",
    "pools": {"fold_pool": {"folder": "web", "tars": 5, "shards": 2, "samples": 14}},
    "sets": {
        "fold_train": {
            "role": "reference", "split": "train", "folder": "ref", "classes": 2, "samples": 6,
        },
        "fold_val": {"folder": "val", "classes": 2, "samples": 4, "obtain": "draw them"},
    },
    "encoders": {"fold_lite0": {"kind": "efficientnet_lite0", "px": 32}},
    "pool": "fold_pool",
    "reference": "fold_train",
    "encoder": "fold_lite0",
    "dedup": {"rule": "earlier-neighbour", "threshold": 0.9999, "check": 14},
    "splits": {"fold_far": {"recipe": "far", "sets": ["fold_val"], "keep": 6}},
    "models": {
        "fold_nano": {
            "model": {
                "embed_dim": 16,
                "vision_cfg": {
                    "image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None,
                },
                "text_cfg": {
                    "context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
                },
            },
            "samples": 32, "checkpoints": 2, "batch": 8,
        }
    },
    "model": "fold_nano",
    "seeds": [0],
    "evaluation": {"templates": ["a {c}"]},
}  # fmt: skip

SPLIT = "results/splits/fold_far.parquet"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's data, and the study's configuration, in a folder where it ran up to the split."""
    folder = tmp_path_factory.mktemp("folders")
    write_pool(folder / "data/web", {0: 4, 1: 3, 3: 2, 4: 5})
    write_set(folder / "data/ref", [0, 1] * 3, split="train", seed=50)
    write_set(folder / "data/val", [0, 1, 1, 0], seed=70)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    snakemake(folder, SPLIT, config=folder / "study.yaml")
    return folder


def test_the_chain_from_folder_to_split(folders: Path) -> None:
    accounts = [read_json(folders / f"results/pools/fold_pool/0000{i}.json") for i in range(2)]
    assert [a["shard"]["tars"] for a in accounts] == [
        {"00000": 4, "00001": 3},
        {"00003": 2, "00004": 5},
    ]
    assert accounts[1]["shard"]["missing"] == ["00002"]
    assert accounts[0]["account"]["rejected"] == {"failed_to_download": 1, "failed_to_resize": 1}
    embedded = read_json(
        folders / "results/embeddings/fold_lite0/fold_pool/account/account_00001.json"
    )
    assert (embedded["in"], embedded["out"]) == (7, 7)
    split = read_parquet(folders / SPLIT).to_pylist()
    kept = [row for row in split if row["kept"]]
    assert len(kept) == 6 + 6  # of the pool, and the reference set
    assert {r["sha256"] for r in split} >= set(
        read_parquet(folders / "results/pools/fold_pool/00001.parquet")["sha256"].to_pylist()
    )
    assert not list(folders.glob("results/pools/**/*.tar"))  # nothing was copied


def test_data_that_moved_compute_nothing_again(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "data", tmp_path / "elsewhere")
    moved = ("--config", f"data={tmp_path / 'elsewhere'}")
    before = digests(folders, "results/splits/*")
    jobs = planned(folders, *moved, "--", SPLIT, config=folders / "study.yaml")
    assert jobs == {}
    assert digests(folders, "results/splits/*") == before


def test_missing_data_are_one_message(folders: Path, tmp_path: Path) -> None:
    words = ("--keep-going", SPLIT)
    done = snakemake(tmp_path, *words, config=folders / "study.yaml", check=False)
    assert done.returncode != 0
    message = "data that this study needs is missing"
    log = (tmp_path / "results/logs/external/1.log").read_text()
    assert log.count(message) == 1
    assert done.stdout.count(message) == 2  # the failed log as Snakemake shows it, and at the end
    last = done.stdout.rsplit("results/logs/external/1.log:\n", maxsplit=1)[1]
    assert last.startswith(f"clipshift: error: {message}")
    assert len(last.splitlines()) < 30
    assert f"{tmp_path}/data/val  (sets.fold_val.folder)" in log
    for place in ("web  (pools.fold_pool", "ref  (sets.fold_train", "draw them"):
        assert place in log
    assert "rule folder_pool" not in done.stdout


def test_train_and_evaluate_on_folders(folders: Path) -> None:
    snakemake(folders, "results/eval/fold_far.json", config=folders / "study.yaml")
    result = read_json(folders / "results/eval/fold_far.json")
    assert result["sets"]["fold_val"]["n"] == 4
    assert result["sets"]["fold_val"]["templates"] == ["a {c}"]
    record = read_json(folders / "results/models/fold_far-fold_nano-s0/record.json")
    assert record["split_samples"] == 12


def test_train_through_the_filter(folders: Path) -> None:
    """Without a copy: neither of the pool's samples nor of the reference set."""
    study = STUDY | {"models": {"fold_pipe": STUDY["models"]["fold_nano"] | {"read": "filter"}}}
    (folders / "pipe.yaml").write_text(yaml.safe_dump(study | {"model": "fold_pipe"}))
    snakemake(folders, "results/eval/fold_far.json", config=folders / "pipe.yaml")
    record = read_json(folders / "results/models/fold_far-fold_pipe-s0/record.json")
    assert (record["split_samples"], record["samples_seen"]) == (12, 32)
    log = (folders / "results/logs/train/fold_far-fold_pipe-s0.log").read_text()
    assert "Handling webdataset error" not in log


def test_the_same_split_from_embeddings_that_the_user_has(folders: Path, tmp_path: Path) -> None:
    """In parts of their own, in another order: joined by key, the split is the same to the byte."""
    shutil.copytree(folders / "data", tmp_path / "data")
    sets = ["fold_pool", "fold_train", "fold_val"]
    for name in sets:
        made = read_all(folders / f"results/embeddings/fold_lite0/{name}")
        order = np.random.default_rng(0).permutation(len(made.keys))
        for part, mine in (("7", order[:3]), ("12", order[3:])):
            keys = pa.table({"image_path": [made.keys[i] for i in mine]})
            write_shard(tmp_path / "data/released" / name, part, made.vectors[mine], keys)
    released = {"kind": "folder", "folders": {name: f"released/{name}" for name in sets}}
    study = STUDY | {"encoders": {"released": released}, "encoder": "released"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    snakemake(tmp_path, SPLIT, config=tmp_path / "study.yaml")
    assert (tmp_path / SPLIT).read_bytes() == (folders / SPLIT).read_bytes()
