"""The cluster's names: faults that name the file, and what to do about jobs that were left."""

from pathlib import Path

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
