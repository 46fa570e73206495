"""A private cluster, runs of `snakemake --profile slurm` on it, and what Slurm knows of them."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from clipshift.core.files import write_text
from clipshift.study.planning.costs import base_rule
from tests.workflow.runner import ROOT, TEST_CONFIG, environment

T = TypeVar("T")
Local = Callable[..., dict[str, str]]  # see the fixture `local`
SCRIPT = Path(__file__).with_name("cluster.sh")
NAMES = {
    "cpu_partition": "batch",
    "gpu_partition": "accel",
    "gpu_model": "a100",
    "cpus_per_gpu": 1,
    "jobs": 20,
    "submissions": "20/1s",
    "first_check": 1,
}


@dataclass
class Cluster:
    """A started cluster. `names` are those of the cluster file of its runs."""

    folder: Path
    port: int
    accounting: bool = False
    names: dict[str, object] = field(default_factory=lambda: dict(NAMES))

    def script(self, *words: str) -> None:
        own = {"SLT_DIR": self.folder, "SLT_PORT": self.port, "SLT_ACCT": int(self.accounting)}
        env = os.environ | {key: str(value) for key, value in own.items()}
        subprocess.run([str(SCRIPT), *words], env=env, check=True, timeout=300)

    def environment(self, names: dict[str, object] | None = None) -> dict[str, str]:
        """Slurm's commands for this cluster, and its names."""
        text = yaml.safe_dump(self.names | (names or {}))
        # A file for each set of names, written once: runs under way read it at any moment.
        file = self.folder / f"cluster.{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
        if not file.exists():
            write_text(file, text)
        env = environment()
        return env | {
            "PATH": f"{self.folder}/bin{os.pathsep}{env['PATH']}",
            "PYTHONPATH": f"{ROOT}/workflow",
            "SLURM_CONF": f"{self.folder}/etc/slurm.conf",
            "CLIPSHIFT_CLUSTER": str(file),
        }

    def ask(self, *words: str) -> str:
        return subprocess.run(
            words, env=self.environment(), capture_output=True, text=True, timeout=60, check=True
        ).stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that the controller remembers: the fields of `scontrol show job`, as text."""
        lines = self.ask("scontrol", "--oneliner", "show", "jobs").splitlines()
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if "JobId=" in line]
        return [job | {"rule": _rule(job.get("Comment", ""))} for job in found]

    def of_folder(self, folder: Path) -> list[dict[str, str]]:
        """The jobs of the runs in a folder, oldest first."""
        mine = [job for job in self.jobs() if job["StdOut"].startswith(f"{folder}/")]
        return sorted(mine, key=lambda job: int(job["JobId"]))

    def running(self, folder: Path, rule: str) -> dict[str, str] | None:
        """The newest job of a rule whose step runs by now."""
        for job in reversed(self.of_folder(folder)):
            if job["rule"] == rule and job["JobState"] == "RUNNING" and processes(job["JobId"]):
                return job
        return None


def _rule(comment: str) -> str:
    return base_rule(comment.removeprefix("rule_").split("_wildcards_")[0])


def processes(job: str) -> list[int]:
    """Pids of the steps' programs (`python -m clipshift...`) of a Slurm job."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            step = any(word.startswith(b"clipshift.") for word in words[:4])
            if step and f"SLURM_JOB_ID={job}".encode() in variables:
                found.append(int(entry.name))
    return found


def command(
    folder: Path, *targets: str, config: Path = TEST_CONFIG, python: str = sys.executable,
    options: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """What a user types, with more status checks and less patience with the file system."""
    words = ["--profile", "slurm", "--configfile", str(config), "--directory", str(folder)]
    words += ["--max-status-checks-per-second", "2", "--latency-wait", "10", "--nocolor"]
    words += [*options, "--", *targets]
    return [python, "-m", "tests.slurm.fastpoll", *words]


class Run:
    """One `snakemake --profile slurm` in the background; its output is in `text()`."""

    def __init__(
        self, cluster: Cluster, folder: Path, *targets: str, config: Path = TEST_CONFIG,
        env: dict[str, str] | None = None, cwd: Path = ROOT, prefix: tuple[str, ...] = (),
        python: str = sys.executable, options: Sequence[str] = (),
    ):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder.with_suffix(".log")
        words = command(folder, *targets, config=config, python=python, options=options)
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [*prefix, *words],
                env=env or cluster.environment(),
                cwd=cwd,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text()

    def end(self, timeout: float = 480) -> str:
        """Wait for a good end; a run that hangs is killed."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the run did not end:\n{self.text()[-6000:]}") from None
        assert code == 0, f"the run failed:\n{self.text()[-8000:]}"
        return self.text()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait_for(self, found: Callable[[], T | None], what: str, timeout: float = 240) -> T:
        """Poll until something is there, while the run goes on."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (value := found()) is not None:
                return value
            assert self.process.poll() is None, f"ended before {what}:\n{self.text()[-6000:]}"
            time.sleep(0.1)
        raise AssertionError(f"no {what} within {timeout} s:\n{self.text()[-4000:]}")
