"""`clipshift cluster-check` on a real Slurm, whose GPUs are declared and not there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.slurm import Cluster


def check(cluster: Cluster, folder: Path, names: dict[str, Any], *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "clipshift.apps.cli", "cluster-check", *words]
    done = subprocess.run(
        [*command, "--directory", str(folder)], env=cluster.environment(names),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert list((folder / "results/work").iterdir()) == []
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"gres": True, "memory": "cpu", "extra": "--nice=5"},
        {"gres": "gpu:{gpus}", "gpu_model": None, "cpus_per_gpu": None, "cpu_partition": None,
         "rules": {"train": {"partition": "accel"}}},
    ],
)  # fmt: skip
def test_both_jobs_come(cluster: Cluster, folder: Path, names: dict[str, Any]) -> None:
    code, text = check(cluster, folder, names)
    assert "cpu job" in text and "came to cpu" in text, text
    assert "came to gpu" in text and "mem=32000M" in text, text
    # Slurm gave a GPU; that no driver is here is what the command must find.
    assert code == 1 and text.count("gpu job: ") == 1, text
    assert "gpu job: Slurm gave GPU 0 (CUDA_VISIBLE_DEVICES), and neither torch" in text, text
    assert check(cluster, folder, names, "--gpus", "0")[0] == 0


@pytest.mark.parametrize(
    ("names", "key"),
    [
        ({"gpu_partition": "nope"}, "cpu_partition, gpu_partition"),
        ({"constraint": {"gpu": "nope"}}, "constraint"),
        ({"gpu_model": "nope"}, "gpu_partition, gpu_model"),
        ({"gpu_model": "nope", "gres": True}, "gpu_"),
        ({"extra": {"gpu": "--no-such-option"}}, "extra"),
    ],
)
def test_what_is_refused_names_its_key(
    cluster: Cluster, folder: Path, names: dict[str, Any], key: str
) -> None:
    code, text = check(cluster, folder, names)
    assert code == 1 and "came to cpu" in text and "gpu job: did not come" in text, text
    assert f"    key: {key}" in text, text


def test_what_waits_is_cancelled(cluster: Cluster, folder: Path) -> None:
    code, text = check(cluster, folder, {"extra": "--begin=now+1hour"}, "--minutes", "0.3")
    assert code == 1 and "PENDING, BeginTime" in text, text
    assert "rule_cpu" not in cluster.ask("squeue", "-h", "-o", "%k")
