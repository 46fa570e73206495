"""A private cluster for these tests, and the same study run locally, to compare with."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.slurm import Cluster
from tests.workflow.runner import ROOT, TEST_CONFIG, snakemake


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


def started(folder: Path, port: int, accounting: bool = False) -> Iterator[Cluster]:
    if not shutil.which("sbatch") or not shutil.which("munge"):
        pytest.skip("no Slurm here: `make test-slurm` installs it where it may")
    cluster = Cluster(folder, port, accounting)
    try:
        cluster.script("start")
        yield cluster
    finally:
        cluster.script("stop")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Slurm without accounting, as `sacct` says on it."""
    yield from started(tmp_path_factory.mktemp("slurm"), 16817)


@pytest.fixture(scope="session")
def accounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Slurm with slurmdbd: sacct answers, accounts are checked."""
    if not Path("/usr/sbin/slurmdbd").exists() or not Path("/usr/sbin/mariadbd").exists():
        pytest.skip("no slurmdbd: `make test-slurm ACCOUNTING=1` installs it, with MariaDB")
    yield from started(tmp_path_factory.mktemp("accounted"), 16917, accounting=True)


@pytest.fixture(scope="session")
def config() -> Path:
    """The study: config/test.yaml, or that of `make test-slurm STUDY=mini`."""
    return ROOT / f"config/{os.environ.get('CLIPSHIFT_SLURM_STUDY') or TEST_CONFIG.stem}.yaml"


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """The finished study, run on this machine without Slurm.

    `CLIPSHIFT_LOCAL=FOLDER` names one that was run before, or where to keep it.
    """
    folder = Path(os.environ.get("CLIPSHIFT_LOCAL") or tmp_path_factory.mktemp("local"))
    snakemake(folder, config=config)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
