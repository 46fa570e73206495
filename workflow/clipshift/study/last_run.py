"""The last run in a working directory: how it was started, by which process, and how it ended.

Every run of the workflow leaves it in `.snakemake`, whether `clipshift run` or `snakemake` started
it, so that it can be taken up again, and so that a lock has a holder.
"""

import os
import socket
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

RECORD = Path(".snakemake/clipshift/last_run.json")


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


def begin(workflow: Any) -> None:
    """Record the run of this process, unless it only sets dates."""
    if {"-t", "--touch"} & set(sys.argv):
        return
    targets = [str(target) for target in workflow.dag_settings.targets or ()]
    options = [word for word in sys.argv[1:] if word not in {*targets, "--"}]
    given = workflow.overwrite_workdir or ""
    places = [place for place in (os.environ.get("PWD"), workflow.rundir) if place]
    origin = next((p for p in places if Path(p, given).resolve() == Path.cwd()), places[-1])
    born = _born(os.getpid()) or 0.0
    host = socket.gethostname()
    _write(Run(options, targets, origin, host, os.getpid(), born, time.time()))


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
