"""Run the real workflow, as users do: one subprocess of snakemake in a folder of its own."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

from clipshift.study.config.load import merged

ROOT = Path(__file__).parents[2]
TEST_CONFIG = ROOT / "config/test.yaml"
OVERLAYS = ROOT / "tests/workflow/overlays"
# The test study with studies B and C on top.
WHOLE = (TEST_CONFIG, OVERLAYS / "domains.yaml", OVERLAYS / "causes.yaml")
# A sum of fast jobs; a run that takes longer hangs.
TIMEOUT = 600


def snakemake(
    folder: Path, *words: str, config: Path = TEST_CONFIG, check: bool = True, cores: int = 2,
    timeout: float = TIMEOUT,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run snakemake in `folder`; its output, both streams together, is in `.stdout`."""
    done = subprocess.run(
        command(folder, *words, config=config, cores=cores),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"snakemake failed:\n{done.stdout[-6000:]}")
    return done


def command(folder: Path, *words: str, config: Path = TEST_CONFIG, cores: int = 2) -> list[str]:
    options = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    options += ["--configfile", str(config), "--cores", str(cores), "--nocolor"]
    options += ["--show-failed-logs", "--rerun-incomplete"]
    return [sys.executable, "-m", "snakemake", *options, *words]


def environment() -> dict[str, str]:
    """The rules call `python`: it must be this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_WAIT_POLICY": "PASSIVE"}


def planned(folder: Path, *words: str, config: Path = TEST_CONFIG) -> dict[str, int]:
    """Rule -> number of jobs that a dry run would start."""
    text = snakemake(folder, "--dry-run", *words, config=config).stdout
    table = text.split("Job stats:")
    if len(table) == 1:
        assert "Nothing to be done" in text, text[-3000:]
        return {}
    jobs: Counter[str] = Counter()
    # A rule with a number makes several test sets in one job.
    for rule, count in re.findall(r"^([a-z_]+?)(?:_\d+)? +(\d+)$", table[-1], flags=re.M):
        jobs[rule] += int(count)
    del jobs["total"]
    return dict(jobs)


def changed_config(folder: Path, change: dict[str, object], *base: Path) -> Path:
    """A copy of a configuration with some keys (dotted paths) set to other values."""
    config = merged(*(base or [TEST_CONFIG]))
    for dotted, value in change.items():
        *parents, last = dotted.split(".")
        block = config
        for parent in parents:
            block = block[parent]
        block[last] = value
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """Path below `folder` -> SHA-256, of all files that match."""
    files = sorted(f for pattern in patterns for f in folder.glob(pattern) if f.is_file())
    assert files, f"nothing matches {patterns} in {folder}"
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# What a run may write differently each time: logs, times, checkpoints, fetched packages, the files
# that carry a time of day, and records of all that a study ever was in its folder.
PRIVATE = ("logs", "benchmarks", "work", "packages", "studies", "README.md")


def contract(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of every result that must be the same in every run, wherever and however."""
    files = sorted(f for f in (folder / "results").rglob("*") if f.is_file())
    public = [f for f in files if f.relative_to(folder / "results").parts[0] not in PRIVATE]
    kept = [f for f in public if f.suffix != ".part"]
    return {str(f.relative_to(folder)): hashlib.sha256(_lasting(f)).hexdigest() for f in kept}


def _lasting(file: Path) -> bytes:
    """A file's bytes; of the record of a training without its clock and its Python's path."""
    if file.name != "record.json" or file.parts[-3] != "models":
        return file.read_bytes()
    record = json.loads(file.read_text())
    del record["seconds_of_last_start"], record["command"]
    return json.dumps(record).encode()
