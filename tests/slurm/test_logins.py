"""Who submits, from where: without accounting, with it, and two users at once."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.slurm.slurm import Cluster, Local, Run
from tests.slurm.test_faults import SOURCE, SOURCES, same
from tests.workflow.runner import ROOT


def test_without_accounting_squeue_is_asked(cluster: Cluster, folder: Path, local: Local) -> None:
    """sacct is there and fails, as it does where accounting is off."""
    env = cluster.environment()
    assert subprocess.run(["sacct", "-X"], env=env, capture_output=True, check=False).returncode
    names = {**cluster.names, "status": "auto"}
    run = Run(cluster, folder, SOURCE, env=cluster.environment(names))
    try:
        run.end(timeout=240)
    finally:
        run.kill()
    same(folder, local(*SOURCES))


def test_with_accounting_account_and_sacct(accounted: Cluster, folder: Path, local: Local) -> None:
    env = accounted.environment({"account": "vision"})
    run = Run(accounted, folder, SOURCE, env=env)
    try:
        run.end(timeout=240)
    finally:
        run.kill()
    same(folder, local(*SOURCES))
    words = ["sacct", "-X", "-n", "-P", "--format=Account,State,ReqTRES", "--starttime=now-1hour"]
    assert [line.split("|")[:2] for line in accounted.ask(*words).splitlines()] == [
        ["vision", "COMPLETED"]
    ]


def test_an_unknown_account_fails_at_once_with_its_name(accounted: Cluster, folder: Path) -> None:
    run = Run(accounted, folder, SOURCE, env=accounted.environment({"account": "nobodys"}))
    try:
        assert run.process.wait(120) != 0
    finally:
        run.kill()
    assert "nobodys appears to be invalid" in run.text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A second checkout, with the packages that are fetched already in its user's cache."""
    place = tmp_path / "second/clipshift"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists() or (ROOT / name).is_symlink():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name, follow_symlinks=False)
    cache = Path.home() / ".cache/clipshift"
    if cache.exists():
        shutil.copytree(cache, place.parent / ".cache/clipshift")
    return place


def interpreter(home: Path) -> str:
    """A Python that everybody may run, as home/bin/python: this one, or Debian's of its version."""
    debian = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
    for python in (Path(sys.executable).resolve(), debian):
        if python.exists() and all(p.stat().st_mode & 0o001 for p in (python, *python.parents)):
            packages = Path(sysconfig.get_path("purelib"))
            (home / "lib" / packages.parent.name).mkdir(parents=True)
            (home / "lib" / packages.parent.name / packages.name).symlink_to(packages)
            (home / "bin").mkdir()
            (home / "bin/python").symlink_to(python)
            (home / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
            return str(home / "bin/python")
    pytest.skip(f"other users may not run {sys.executable}, and there is no {debian}")


def test_two_users_at_once(cluster: Cluster, folder: Path, checkout: Path, local: Local) -> None:
    """Two checkouts; as root also two users, of whom the second may not touch the first's files."""
    home, prefix = checkout.parent, ()
    python = interpreter(home)
    if os.getuid() == 0:
        uid = pwd.getpwnam("nobody").pw_uid
        prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        (home / "run").mkdir()
        for path in [home, *home.rglob("*")]:
            os.chown(path, uid, uid, follow_symlinks=False)
        for parent in home.parents:  # pytest's are their owner's only
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    env = cluster.environment() | {
        "HOME": str(home),
        "PYTHONPATH": f"{checkout}/workflow",
        "PATH": f"{home}/bin{os.pathsep}{cluster.environment()['PATH']}",
        "XDG_CACHE_HOME": str(home / ".cache"),
    }
    mine = Run(cluster, folder, SOURCE)
    theirs = Run(cluster, home / "run", SOURCE, env=env, cwd=checkout, prefix=prefix, python=python)
    try:
        mine.end()
        theirs.end()
    finally:
        mine.kill()
        theirs.kill()
    same(folder, local(*SOURCES))
    same(home / "run", local(*SOURCES))
    users = {job["UserId"] for f in (folder, home / "run") for job in cluster.of_folder(f)}
    assert len(users) == (2 if os.getuid() == 0 else 1)
