"""The cluster's names: faults that name the file, and what to do about jobs that were left."""

from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.study import cluster
from tests.conftest import ROOT, dump

NAMES = {"cpu_partition": "batch", "gpu_partition": "accel"}


def program(folder: Path, name: str, text: str) -> None:
    path = dump(folder / name, f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH: no Slurm but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_the_shipped_file_is_valid_and_complete() -> None:
    assert cluster.read(cluster.SHIPPED).gpu_partition == "a100"
    assert set(yaml.safe_load(cluster.SHIPPED.read_text())) == set(cluster.Cluster.model_fields)
    page = (ROOT / "docs/cluster.md").read_text()
    assert not [name for name in cluster.Cluster.model_fields if f"`{name}`" not in page]


def test_a_variable_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSHIFT_CLUSTER", str(dump(tmp_path / "mine.yaml", NAMES)))
    assert cluster.read().gpu_partition == "accel"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpu_partitoin": "x"}, "gpu_partitoin: Extra inputs are not permitted"),
        ({"cpu_partition": None}, "cpu_partition: "),
        ({"submissions": "fast"}, "submissions: "),
        ({"account": "a; rm -rf ~"}, "account: "),
        ({"status": "qstat"}, "status: "),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = dump(tmp_path / "mine.yaml", NAMES | change)
    with pytest.raises(ClipshiftError) as caught:
        cluster.read(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="CLIPSHIFT_CLUSTER"):
        cluster.read(tmp_path / "none.yaml")


def test_sacct_is_asked_only_where_it_answers(bin_folder: Path) -> None:
    names = cluster.Cluster.model_validate(NAMES)
    assert names.status_command() == "squeue"  # no sacct
    program(bin_folder, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert names.status_command() == "squeue"
    program(bin_folder, "sacct", "exit 0")
    assert names.status_command() == "sacct"
    assert names.model_copy(update={"status": "squeue"}).status_command() == "squeue"


def test_leftovers_are_the_jobs_that_log_into_this_folder(bin_folder: Path, tmp_path: Path) -> None:
    cluster.refuse_leftovers(tmp_path)  # no squeue at all
    logs = tmp_path.resolve() / ".snakemake/slurm_logs/rule_train"
    lines = [f"11{' ' * 18}{logs}/%j.log{' ' * 40}", f"12{' ' * 18}/elsewhere/12.log", "13"]
    program(bin_folder, "squeue", "\n".join(f"echo '{line}'" for line in lines))
    assert cluster.leftovers(tmp_path) == ["11"]
    assert cluster.leftovers(tmp_path / "other") == []
    with pytest.raises(ClipshiftError, match="scancel 11"):
        cluster.refuse_leftovers(tmp_path)


class Wildcards:
    def __init__(self, model: str) -> None:
        self.model = model


def asked(resources: dict[str, Any], model: str, attempt: int) -> dict[str, Any]:
    """The resources of a job, as Snakemake asks for them."""
    given = {"wildcards": Wildcards(model), "attempt": attempt}
    return {
        name: value(**{n: given.get(n, given["wildcards"]) for n in signature(value).parameters})
        if callable(value)
        else value
        for name, value in resources.items()
    }


def needs(monkeypatch: pytest.MonkeyPatch, **amounts: Any) -> dict[str, Any]:
    cluster.in_use.cache_clear()
    resources = cluster.needs(**amounts)
    monkeypatch.undo()
    cluster.in_use.cache_clear()
    return resources


def test_a_further_attempt_gets_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    short = needs(monkeypatch, memory=2000, minutes=60)
    assert asked(short, "a", 1) == {"mem_mb": 2000, "runtime": 60}
    assert asked(short, "a", 3) == {"mem_mb": 6000, "runtime": 180}
    assert asked(needs(monkeypatch, memory=1, minutes=1440), "a", 2)["runtime"] == 2880
    # A week is a partition's limit.
    assert asked(needs(monkeypatch, memory=1, minutes=10080), "a", 2)["runtime"] == 10080


def test_partition_and_type_of_gpu_are_the_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the GPUs of each job; a type without a GPU is a request that Slurm refuses."""
    names = NAMES | {"account": "vision", "gpu_model": "h100", "cpus_per_gpu": 6}
    monkeypatch.setenv(cluster.IN_USE, str(dump(tmp_path / "mine.yaml", names)))
    gpus = {"big": 8, "small": 0}
    resources = needs(monkeypatch, memory=10, minutes=5, gpus=lambda w: gpus[w.model])
    common = {"mem_mb": 10, "runtime": 5, "slurm_account": "vision", "cpus_per_gpu": 6}
    big = {"gpu": 8, "slurm_partition": "accel", "gpu_model": "h100"}
    assert asked(resources, "big", 1) == common | big
    small = {"gpu": 0, "slurm_partition": "batch", "gpu_model": ""}
    assert asked(resources, "small", 1) == common | small
