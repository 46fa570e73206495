"""The runs in a working directory: how the last one was started, and how it ended; what all ran.

Every run of the workflow leaves it in `.snakemake`, whether `clipshift run` or `snakemake` started
it, so that it can be taken up again, and so that a lock has a holder. A line of `HISTORY` says for
good with which code and configuration files were made.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clipshift import __version__
from clipshift.core.step import ROOT

RECORD = Path(".snakemake/clipshift/last_run.json")
HISTORY = Path("results/studies/runs.jsonl")
CONFIGURATIONS = Path("results/studies/configurations")


@dataclass(frozen=True)
class Run:
    """A run of Snakemake.

    Attributes:
        options, targets: its command line.
        origin: the folder that relative paths of the options begin at.
        born: when its process began, which a later process of the same number did not.
        ended: None while it runs, and where it was killed. `ok`: whether all jobs succeeded.
    """

    options: list[str]
    targets: list[str]
    origin: str
    host: str
    pid: int
    born: float
    started: float
    ended: float | None = None
    ok: bool = False

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    def alive(self) -> bool:
        """Whether its process is there; only of a run on this host."""
        return self.here and _born(self.pid) == self.born

    def words(self) -> list[str]:
        """Its command line."""
        return [*self.options, "--", *self.targets] if self.targets else self.options


def begin(workflow: Any, configuration: dict[str, Any]) -> None:
    """Record the run of this process, unless it only sets dates.

    Args:
        configuration: what differs from the defaults.
    """
    if {"-t", "--touch"} & set(sys.argv):
        return
    targets = [str(target) for target in workflow.dag_settings.targets or ()]
    options = [word for word in sys.argv[1:] if word not in {*targets, "--"}]
    given = workflow.overwrite_workdir or ""
    places = [place for place in (os.environ.get("PWD"), workflow.rundir) if place]
    origin = next((p for p in places if Path(p, given).resolve() == Path.cwd()), places[-1])
    born = _born(os.getpid()) or 0.0
    host = socket.gethostname()
    run = Run(options, targets, origin, host, os.getpid(), born, time.time())
    _write(run)
    _remember(run, configuration)


def _remember(run: Run, configuration: dict[str, Any]) -> None:
    """Append a run to the history."""
    from clipshift.core.files import sha256_json, write_json

    file = CONFIGURATIONS / f"{sha256_json(configuration)[:12]}.json"
    if not file.exists():
        write_json(file, configuration)
    line = {
        "started": run.started, "command": shlex.join(["snakemake", *run.words()]),
        "host": run.host, "version": __version__, "commit": commit(), "configuration": str(file),
    }  # fmt: skip
    with HISTORY.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def commit() -> str:
    """The commit of the code, with a + where files differ from it; empty outside of a checkout."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return ""


def end(ok: bool) -> None:
    """Record that the run of this process ended."""
    run = read(Path())
    if run and run.pid == os.getpid():
        _write(replace(run, ended=time.time(), ok=ok))


def read(folder: Path) -> Run | None:
    """The last run in a working directory; None where there is none, or its record is damaged."""
    try:
        return TypeAdapter(Run).validate_json((folder / RECORD).read_bytes(), strict=True)
    except (OSError, ValueError):
        return None


def _write(run: Run) -> None:
    from clipshift.core.files import write_json

    write_json(RECORD, asdict(run))


def _born(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
