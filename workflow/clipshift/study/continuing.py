"""A job that is continued: a start that got further costs it no attempt.

A training on a cluster ends with its time, time and again. Snakemake would count each of these ends
as a failure, and give the next start more memory.
"""

import sys
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json

# File in a job's work folder (its parameter `work`): `parts`, how many are done.
PROGRESS = "progress.json"


def continue_jobs() -> None:
    """Let Snakemake start a job again as long as it gets on; `retries` are for those that do not.

    Its scheduler has no such hook: the method that counts the attempts is wrapped, once.
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    count = JobScheduler._handle_error
    if hasattr(count, "__wrapped__"):
        return
    reached: dict[Path, int] = {}

    def counted(scheduler: Any, job: Any, *rest: Any, **named: Any) -> None:
        for work, parts in progress(job).items():
            if parts > reached.get(work, 0):
                reached[work] = parts
                job.attempt -= 1
                print(f"{work}: {parts} parts are done; this start costs no attempt.",
                      file=sys.stderr)  # fmt: skip
        count(scheduler, job, *rest, **named)

    counted.__wrapped__ = count  # type: ignore[attr-defined]
    JobScheduler._handle_error = counted


def progress(job: Any) -> dict[Path, int]:
    """The work folder of a job of Snakemake, if it has one, and the parts that are done there."""
    step = getattr(getattr(job, "params", None), "job", None)
    work = step.params().get("work") if step else None
    file = Path(work or "", PROGRESS)
    if not work or not file.is_file():
        return {}
    try:
        return {Path(work): int(read_json(file)["parts"])}
    except (ClipshiftError, KeyError, TypeError, ValueError):
        return {}
