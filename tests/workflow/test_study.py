"""The whole chain on real data, end to end: what it makes, what a change makes again."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from clipshift.core.files import read_parquet
from tests.workflow.runner import (
    changed_config,
    command,
    digests,
    environment,
    planned,
    snakemake,
)

DATA = (
    "results/sources/*/*",
    "results/pools/*/*",
    "results/sets/**/*",
    "results/embeddings/**/*.npy",
    "results/embeddings/**/*.parquet",
    "results/dedup/**/*",
    "results/thresholds/**/*",
    "results/margins/**/*",
    "results/splits/*",
)


def test_a_second_run_has_nothing_to_do(study: Path) -> None:
    assert planned(study) == {}


def test_evaluations_carry_n_intervals_and_identity(study: Path) -> None:
    result = json.loads((study / "results/eval/test_near.json").read_text())
    run = json.loads((study / "results/eval/test_near-nano-s0.json").read_text())
    record = json.loads((study / "results/models/test_near-nano-s0/record.json").read_text())
    assert result["points_pruned"] + result["points_kept"] == 397
    assert result["samples_seen"] == record["samples_seen"] == 1024
    assert run["checkpoint_sha256"] == record["model_sha256"]
    for name, entry in run["sets"].items():
        rows = study / f"results/logits/{name}/test_near-nano-s0.parquet"
        logits, table = np.load(rows.with_suffix(".npy")), read_parquet(rows)
        assert logits.shape == (entry["n"], len(entry["classes"])) and logits.dtype == np.float32
        assert entry["n"] == result["sets"][name]["n"] == len(table)
        assert table["predicted"].to_pylist() == logits.argmax(1).tolist()
        assert sum(r == 0 for r in table["rank"].to_pylist()) == entry["correct"]
        assert entry["top1_low"] < entry["top1"] < entry["top1_high"]
        assert "trained_on" not in entry


def test_no_test_picture_is_in_the_training_data(study: Path) -> None:
    results = study / "results"
    pool = [read_parquet(f) for f in sorted(results.glob("pools/*/*.parquet"))]
    pool.append(read_parquet(results / "sets/test_reference/samples.parquet"))
    for name in ("test_val", "test_sketch"):
        table = read_parquet(results / f"sets/{name}/samples.parquet")
        for column in ("key", "url_hash", "sha256"):
            held_out = set(table[column].to_pylist())
            assert held_out
            for part in pool:
                assert held_out.isdisjoint(part[column].to_pylist())
        styles = set(zip(table["source"].to_pylist(), table["concept"].to_pylist(), strict=True))
        for part in pool:
            pairs = zip(part["source"].to_pylist(), part["concept"].to_pylist(), strict=True)
            assert styles.isdisjoint(pairs)


def test_the_report_is_one_whole_page(study: Path) -> None:
    page = (study / "results/report.html").read_text()
    for text in ("test_combined", "closer than the reference set", "CC-BY-SA-4.0", "skin-tone"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    drawn = len(list((study / "results/figures").glob("*.svg")))
    assert page.count("data:image/svg+xml") == drawn > 0


def test_two_builds_give_the_same_bytes(study: Path, tmp_path: Path) -> None:
    """On one core instead of two, in another folder."""
    splits = [str(f.relative_to(study)) for f in study.glob("results/splits/*.parquet")]
    snakemake(tmp_path, *splits, cores=1)
    again = digests(tmp_path, *DATA)
    once = digests(study, *DATA)
    assert again == {path: once[path] for path in again}
    assert {"pools", "sets", "embeddings", "margins", "splits"} <= {p.split("/")[1] for p in again}


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    """A copy of the finished study that a test may change."""
    folder = tmp_path / "copy"
    shutil.copytree(study, folder, symlinks=True)
    return folder


def test_a_changed_recipe_makes_only_its_split_again(copy: Path, tmp_path: Path) -> None:
    config = changed_config(tmp_path, {"splits.test_rand.keep": 0.6})
    jobs = planned(copy, config=config)
    # The curve of which the split is a point, and the line to which its model belongs.
    assert jobs.pop("figure") == 2
    assert jobs.pop("logits") == 2
    once = ("split", "split_samples", "guard", "train", "evaluate", "evaluate_and_export")
    assert {rule: jobs.pop(rule) for rule in once} == dict.fromkeys(once, 1)
    assert set(jobs) == {"all", "accuracy_table", "contrasts_table", "report_page"}


def test_another_threshold_compares_nothing_again(copy: Path, tmp_path: Path) -> None:
    """Scores are stored: rule and threshold apply in a cheap step."""
    for change in ({"dedup.threshold": 0.98}, {"dedup.rule": "connected-components"}):
        jobs = planned(copy, config=changed_config(tmp_path, change))
        assert (jobs["dedup_apply"], jobs["dedup_record"], jobs["split"]) == (2, 1, 6)
        assert not jobs.keys() & {"dedup_fit", "dedup_assign", "dedup_score", "dedup_check"}
        assert not jobs.keys() & {"embed", "margins", "thresholds"}


def test_other_prompts_train_and_embed_nothing(copy: Path, tmp_path: Path) -> None:
    jobs = planned(copy, config=changed_config(tmp_path, {"evaluation.templates": ["a {c}"]}))
    assert (jobs["logits"], jobs["evaluate"]) == (12, 6)
    assert not jobs.keys() & {"train", "split", "embed", "test_set", "source"}


def test_a_lost_figure_is_drawn_again_alone(copy: Path) -> None:
    figure = copy / "results/figures/similarity_gap_test_sets.svg"
    before = figure.read_bytes()
    figure.unlink()
    snakemake(copy, "results/figures/similarity_gap_test_sets.svg")
    assert figure.read_bytes() == before


def test_a_killed_training_goes_on_and_ends_as_the_undisturbed_one(copy: Path) -> None:
    run = "test_full-nano-s0"
    target = f"results/models/{run}/model.pt"
    undisturbed = digests(copy, target)
    shutil.rmtree(copy / f"results/models/{run}")
    checkpoint = copy / f"results/work/{run}/logs/{run}/checkpoints/epoch_latest.pt"
    process = subprocess.Popen(
        command(copy, target),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (copy / target).exists()
    snakemake(copy, "--unlock")
    snakemake(copy, target)
    log = (copy / f"results/logs/train/{run}.log").read_text()
    assert "resuming checkpoint" in log
    assert digests(copy, target) == undisturbed
