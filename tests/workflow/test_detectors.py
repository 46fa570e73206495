"""Study B as the paper did it, at the smallest scale: two tuned detectors on the scored pool."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import pyarrow as pa
import pytest
import torch

from clipshift.classifiers.domain_labels import SCHEMA
from clipshift.core.files import read_parquet, write_json, write_parquet
from clipshift.similarity.open_clip_models import register
from tests.workflow.runner import OVERLAYS, TEST_CONFIG, changed_config, planned, snakemake

HOME = "results/domains/test"
TABLES = [
    f"results/tables/domain_{name}_test.csv" for name in ("detectors", "composition", "clean")
]
MODEL = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
LEARNING = {"kind": "finetune", "encoder": "tower", "epochs": 6, "batch": 32, "lr": 0.05}
NATURAL = LEARNING | {"transform": "training"}
RENDITION = NATURAL | {
    "form": "one_vs_rest", "detects": "rendition", "features": "tower", "accumulation": 2,
    "precision": "bf16",
}  # fmt: skip


def weights(folder: Path) -> str:
    """A small ViT as a folder of open_clip's."""
    folder.mkdir()
    register("workflow-vit", MODEL, folder)
    torch.manual_seed(0)
    state = open_clip.create_model("workflow-vit", load_weights=False).state_dict()
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": {}})
    return f"local-dir:{folder}"


def labels(study: Path, file: Path) -> list[str]:
    """People's labels of every third image of a test set: renditions, as all of it are."""
    keys = sorted(
        read_parquet(study / "results/sets/test_sketch/samples.parquet")["key"].to_pylist()
    )
    rows = [
        {"key": key, "label": 1, "concept": None, "source": None, "annotator": "ann"}
        for key in keys[::3]
    ]
    write_parquet(file, pa.Table.from_pylist(rows, schema=SCHEMA))
    return keys[::3]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def made(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The test study with the paper's detectors, and how its configuration differs."""
    folder = tmp_path_factory.mktemp("detectors")
    shutil.copytree(study, folder / "study", symlinks=True)
    labels(study, folder / "labels.parquet")
    tower = {"kind": "open_clip", "model": weights(folder / "vit"), "pretrained": "x", "batch": 32}
    detectors = {"natural_ft": NATURAL, "renditions": RENDITION}
    change: dict[str, Any] = {
        "encoders.tower": tower,
        "domains.classifiers": detectors,
        "domains.natural": "natural_ft",
        "domains.rendition": "renditions",
        "domains.precision": 0.7,
        "domains.pool_of": "test_full",
        "domains.benchmarks": {"test_sketch": str(folder / "labels.parquet")},
        "domains.clean": {"test_sketch_clean": {"set": "test_sketch", "domain": "rendition"}},
        "splits.test_any.seeds": [],
        "splits.test_natural": {"recipe": "full"},
        "figures": {
            "domain_detectors": {"test": {"classifiers": [*detectors]}},
            "domain_composition": {"test": {}},
            "domain_clean": {"test": {"clean": ["test_sketch_clean"], "labelled": True}},
        },
    }
    config = changed_config(folder, change, TEST_CONFIG, OVERLAYS / "domains.yaml")
    snakemake(folder / "study", *TABLES, "results/splits/test_any.parquet", config=config)
    return folder / "study", change


def test_only_the_deduplicated_pool_is_scored_and_counted(
    made: tuple[Path, dict[str, Any]],
) -> None:
    study, _ = made
    split = read_parquet(study / "results/splits/test_full.parquet")
    reasons = dict(zip(split["key"].to_pylist(), split["reason"].to_pylist(), strict=True))
    pool = {
        key
        for file in (study / "results/pools/test_pool").glob("*.parquet")
        for key in read_parquet(file)["key"].to_pylist()
    }
    unique = {key for key in pool if reasons[key] == "kept"}
    assert 0 < len(unique) < len(pool)
    for folder in ("scores/natural_ft", "scores/renditions", "verdicts"):
        files = sorted((study / f"{HOME}/{folder}/test_pool").glob("*.parquet"))
        keys = [key for file in files for key in read_parquet(file)["key"].to_pylist()]
        assert len(files) == 3 and sorted(keys) == sorted(unique)
    composition = json.loads((study / f"{HOME}/composition.json").read_text())["datasets"]
    assert composition["test_pool"]["n"] == len(unique)
    drawn = read_parquet(study / "results/splits/test_any.parquet")
    kept = set(drawn.filter(drawn["kept"])["key"].to_pylist())
    assert len(kept) == 40 and not kept & (pool - unique)


def test_the_detectors_are_measured_on_labelled_benchmark_images(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    study, _ = made
    people = labels(study, tmp_path / "labels.parquet")
    own = read_parquet(study / f"{HOME}/labels/test_sketch.parquet")
    assert own["key"].to_pylist() == people and set(own["annotator"].to_pylist()) == {"ann"}
    rows = table(study / TABLES[0])
    assert {(r["classifier"], r["domain"]) for r in rows} == {
        ("natural_ft", "natural"), ("natural_ft", "rendition"), ("renditions", "rendition")
    }  # fmt: skip
    tested = {(r["classifier"], r["domain"]): r for r in rows if r["set"] == "test_sketch"}
    assert len(tested) == 3 and {r["n"] for r in tested.values()} == {str(len(people))}
    judged = read_parquet(study / f"{HOME}/verdicts/test_sketch/00000.parquet").to_pylist()
    clean = {r["key"] for r in judged if r["verdict"] == "rendition"}
    (row,) = table(study / TABLES[2])
    assert int(row["pictures"]) == len(clean)
    assert int(row["labelled"]) == int(row["labelled_of_domain"]) == len(clean & set(people)) > 0


def test_another_threshold_of_duplicates_computes_no_margin_again(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    study, change = made
    base = (TEST_CONFIG, OVERLAYS / "domains.yaml")
    targets = (*TABLES, "results/splits/test_any.parquet", "results/splits/test_near.parquet")
    assert planned(study, *targets, config=changed_config(tmp_path, change, *base)) == {}
    again = changed_config(tmp_path, change | {"dedup.threshold": 0.99}, *base)
    jobs = planned(study, *targets, config=again)
    assert jobs["dedup_apply"] == 2 and jobs["domain_score_images"] >= 6
    assert not {"embed", "margins", "dedup_score"} & jobs.keys()
