"""A whole study on a real cluster: what arrives at Slurm, and that the result is the local one."""

import os
from pathlib import Path

import pytest

from tests.slurm.slurm import Cluster, Local, Run
from tests.workflow.runner import contract, planned

GPU_RULES = {"embed", "thresholds", "margins", "neighbours", "dedup_assign", "dedup_score",
             "dedup_check", "logits"}  # fmt: skip


@pytest.fixture(scope="module")
def finished(cluster: Cluster, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "run"
    run = Run(cluster, folder, config=config)
    run.end(timeout=float(os.environ.get("CLIPSHIFT_SLURM_PATIENCE", "3600")))
    return folder


def test_equals_the_local_run(finished: Path, local: Local, config: Path) -> None:
    assert contract(finished) == local(config=config)


def test_every_job_went_through_slurm_once(
    cluster: Cluster, finished: Path, config: Path, tmp_path: Path
) -> None:
    jobs = [job["rule"] for job in cluster.of_folder(finished)]
    expected = planned(tmp_path, config=config)
    for rule in (
        "all",
        "fetch",
        "pool_manifest",
        "set_prompts",
        "set_export",
    ):  # on the login, in seconds
        expected.pop(rule, None)
    assert {rule: jobs.count(rule) for rule in set(jobs)} == expected
    assert {job["JobState"] for job in cluster.of_folder(finished)} == {"COMPLETED"}


def test_what_each_rule_asked_for_arrived(cluster: Cluster, finished: Path) -> None:
    for job in cluster.of_folder(finished):
        asked = (job["Partition"], job.get("TresPerJob", ""), job["TRES"].split(",")[1])
        if job["rule"] in GPU_RULES:
            assert asked == ("accel", "gres:gpu:a100:1", "mem=32000M")
            assert job["TimeLimit"] == "04:00:00"
            assert job["NodeList"].startswith("gpu")
        elif job["rule"] == "train":  # its model trains without a GPU
            assert asked == ("batch", "", "mem=8000M") and job["TimeLimit"] == "04:00:00"
        elif job["rule"] in ("split", "dedup_fit"):
            assert asked == ("batch", "", "mem=62.50G") and job["TimeLimit"] == "1-00:00:00"
        else:
            assert asked[:2] == ("batch", "") and job["NodeList"].startswith("cpu")
            assert 500 <= int(asked[2].removeprefix("mem=").removesuffix("M")) <= 3000
