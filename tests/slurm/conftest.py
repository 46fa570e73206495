"""A private cluster for these tests, and the same study run locally, to compare with."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.slurm import Cluster
from tests.workflow.runner import ROOT, TEST_CONFIG, contract, snakemake


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(0))  # runs have a patience of their own


def free_port() -> int:
    """The first of 20 ports that nobody listens on: two clusters may run on one host."""
    for first in range(16800, 26800, 20):
        try:
            for port in range(first, first + 20):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def started(accounting: bool = False) -> Iterator[Cluster]:
    if not shutil.which("sbatch") or not shutil.which("munge"):
        pytest.skip("no Slurm here: `make test-slurm` installs it where it may")
    folder = Path(tempfile.mkdtemp(prefix="clipshift-slurm-"))
    folder.chmod(0o755)  # pytest's folders are private; munge refuses a socket in one
    cluster = Cluster(folder, free_port(), accounting)
    try:
        cluster.script("start")
        yield cluster
    finally:
        cluster.script("stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Slurm without accounting, as `sacct` says on it."""
    yield from started()


@pytest.fixture(scope="session")
def accounted() -> Iterator[Cluster]:
    """Slurm with slurmdbd: sacct answers, accounts are checked."""
    if not Path("/usr/sbin/slurmdbd").exists() or not Path("/usr/sbin/mariadbd").exists():
        pytest.skip("no slurmdbd: `make test-slurm ACCOUNTING=1` installs it, with MariaDB")
    yield from started(accounting=True)


@pytest.fixture(scope="session")
def config() -> Path:
    """The study: config/test.yaml, or that of `make test-slurm STUDY=mini`."""
    return ROOT / f"config/{os.environ.get('CLIPSHIFT_SLURM_STUDY') or TEST_CONFIG.stem}.yaml"


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """`local(*targets)`: digests of the results, run on this machine without Slurm.

    `CLIPSHIFT_LOCAL=FOLDER` names a folder that is kept.
    """
    here = Path(os.environ.get("CLIPSHIFT_LOCAL") or tmp_path_factory.mktemp("local"))

    def digests(*targets: str, config: Path = TEST_CONFIG) -> dict[str, str]:
        folder = here / config.stem
        folder.mkdir(parents=True, exist_ok=True)
        snakemake(folder, *targets, config=config, timeout=3600)
        return contract(folder)

    return digests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
