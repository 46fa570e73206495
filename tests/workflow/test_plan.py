"""Dry runs over configurations, the workflow's lint, and errors at parse time."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.runner import ROOT, changed_config, environment, planned, snakemake

MINI = ROOT / "config/mini.yaml"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"train": 6, "split": 6, "margins": 4, "embed": 6, "source": 3, "dedup_score": 2}),
        ({"seeds": [0, 1, 2]}, {"train": 18, "logits": 18, "evaluate": 6, "split": 6}),
        (
            {"pools.test_pool.shards": 7},
            {"pool_shard": 7, "margins": 8, "embed": 10, "dedup_assign": 7},
        ),
        (
            {"figures": {}},
            {"figure": 0, "accuracy_vs_similarity": 0, "contrasts_table": 0, "train": 6},
        ),
        (
            {"splits": {"test_full": {"recipe": "full", "reference": False}}, "figures": {}},
            {"train": 1, "caption_reference": 0, "margins": 0},
        ),
        ({"dedup": {"rule": "none"}}, {"dedup_apply": 0, "dedup_record": 0, "split": 6}),
    ],
)
def test_dry_run_plans_the_jobs_of_the_configuration(
    tmp_path: Path, change: dict[str, object], expected: dict[str, int]
) -> None:
    jobs = planned(tmp_path, config=changed_config(tmp_path, change))
    assert {rule: jobs.get(rule, 0) for rule in expected} == expected


def test_the_default_study_plans(tmp_path: Path) -> None:
    jobs = planned(tmp_path, config=MINI)
    assert jobs["train"] == 26
    assert jobs["report_page"] == 1


def test_the_fuller_study_adds_to_the_default_one(tmp_path: Path) -> None:
    words = ("--configfile", str(MINI), str(ROOT / "config/mini-full.yaml"))
    more, default = planned(tmp_path, *words), planned(tmp_path, config=MINI)
    assert more["train"] > 2 * default["train"]
    assert {r: more[r] for r in ("source", "embed")} == {r: default[r] for r in ("source", "embed")}


def test_one_figure_needs_only_its_inputs(tmp_path: Path) -> None:
    jobs = planned(tmp_path, "results/figures/similarity_gap_test_sets.svg")
    assert jobs["neighbours"] == 4
    assert not jobs.keys() & {"train", "evaluate", "margins", "report_page"}


def test_one_evaluation_needs_only_its_split(tmp_path: Path) -> None:
    jobs = planned(tmp_path, "results/eval/test_near.json")
    assert (jobs["split"], jobs["train"], jobs["margins"]) == (1, 1, 3)


def test_a_typo_stops_at_once_and_names_the_nearest_key(tmp_path: Path) -> None:
    config = changed_config(tmp_path, {"splits.test_near.kep": 3})
    done = snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert done.returncode != 0
    assert f"{config}: splits.test_near.kep: unknown key; did you mean 'keep'?" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_slurm_profile_resolves_by_its_name(tmp_path: Path) -> None:
    """`snakemake --profile slurm TARGET` from the root, as the README says."""
    words = ["--profile", "slurm", "--dry-run", "--directory", str(tmp_path)]
    words += ["--configfile", "config/mini.yaml", "--", "results/eval/near_sketch_40.json"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "slurm_partition=a100" in done.stdout + done.stderr


@pytest.mark.parametrize("study", ["test", "laion400m", "yfcc15m", "rehearsal"])
def test_lint(tmp_path: Path, study: str) -> None:
    """Lints see parameters, and so the study's values."""
    config = ROOT / f"config/{study}.yaml"
    done = snakemake(tmp_path, "--lint", config=config, check=False)
    assert done.returncode == 0, done.stdout
