"""What was planned for the jobs that have run, and what they took: `clipshift plan --compare`.

A job's time is that of its benchmark, and of a job without one that of Snakemake's record of its
first output, from start to end. A training that was started again has the time of its last start.
"""

import base64
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.study import Config
from clipshift.study.planning.planned import Job
from clipshift.study.planning.preview import columns, dry_run, study_of
from clipshift.study.planning.text import duration, size

RECORDS = Path(".snakemake/metadata")
# Shorter jobs are their start and nothing else: no rate follows from them.
SECONDS = 60.0


@dataclass
class Compared:
    """The jobs of a rule that have run.

    Attributes:
        planned, measured: seconds of all; as_counted: planned without a calibration.
        memory: MB at most; asked: MB that a job asks for.
    """

    rule: str
    jobs: int = 0
    planned: float = 0.0
    measured: float = 0.0
    as_counted: float = 0.0
    memory: float = 0.0
    asked: int = 0
    _seen: set[str] = field(default_factory=set)

    def add(self, cfg: Config, job: Job, once: str, seconds: float, memory: float) -> None:
        """Add a job; one that made the files of several planned ones is measured once."""
        work = job.work(cfg)
        self.planned += work.seconds(cfg)
        self.as_counted += work.seconds(cfg) / work.factor
        self.memory = max(self.memory, memory)
        self.asked = max(self.asked, job.asked.get("mem_mb", 0))
        if once not in self._seen:
            self._seen.add(once)
            self.jobs += 1
            self.measured += seconds


def measured(job: Job, directory: Path) -> tuple[str, float, float] | None:
    """Which run made a job's files, its seconds, and MB of memory; None: none is known of.

    Raises:
        ClipshiftError: a benchmark or a record is none.
    """
    record = next(filter(None, (_record(directory, file) for file in job.outputs)), None)
    benchmark = directory / job.benchmark if job.benchmark else None
    if benchmark and benchmark.is_file():
        try:
            rows = list(csv.DictReader(benchmark.open(), delimiter="\t"))
            memory = float(rows[0]["max_rss"]) if rows[0]["max_rss"] not in ("NA", "-") else 0.0
            return str(benchmark), float(rows[0]["s"]), memory
        except (LookupError, ValueError, TypeError) as error:
            raise ClipshiftError(
                f"{benchmark}: no benchmark of Snakemake ({error}); delete it, and its job's time "
                "is that of Snakemake's record"
            ) from None
    if record is None:
        return None
    return " ".join(record["log"]), record["endtime"] - record["starttime"], 0.0


def _record(directory: Path, file: str) -> dict[str, Any] | None:
    """Snakemake's record of a file, with a start and an end."""
    path = directory / RECORDS / base64.urlsafe_b64encode(file.encode()).decode()
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        return None
    except ValueError as error:
        raise ClipshiftError(f"{path}: no record of Snakemake ({error}); delete it") from None
    return record if record.get("starttime") and record.get("endtime") else None


def compare(cfg: Config, jobs: Sequence[Job], directory: Path) -> list[Compared]:
    """A row per rule, in the order of first appearance."""
    rows: dict[str, Compared] = {}
    for job in jobs:
        if run := measured(job, directory):
            rows.setdefault(job.name, Compared(job.name)).add(cfg, job, *run)
    return list(rows.values())


def text(cfg: Config, rows: Sequence[Compared], jobs: int) -> str:
    """The table, and the calibration that follows from it."""
    head = ("rule", "jobs", "planned", "measured", "measured / planned", "memory", "asked for")
    cells = [
        (
            row.rule,
            f"{row.jobs:,}",
            duration(row.planned),
            duration(row.measured),
            f"{row.measured / row.planned:.3g}",
            size(row.memory * 1e6) if row.memory else "",
            size(row.asked * 1e6) if row.asked else "",
        )
        for row in sorted(rows, key=lambda row: -row.measured)
    ]
    factors = {
        row.rule: float(f"{row.measured / row.as_counted:.3g}")
        for row in rows
        if row.measured / row.jobs >= SECONDS
    }
    parts = [f"Study {cfg.study}: planned and measured, of {jobs} jobs\n", columns([head, *cells])]
    if factors:
        parts += ["", "Rates of this machine, for rules whose jobs take a minute at least; limits "
                  "follow from them:", "costs:", "  calibration:"]  # fmt: skip
        parts += [f"    {rule}: {factor:g}" for rule, factor in sorted(factors.items())]
    return "\n".join(parts)


def comparison(
    targets: Sequence[str], configfiles: Sequence[Path], data: str | None, directory: Path,
    gpus: int | None,
) -> None:  # fmt: skip
    """Print the comparison; arguments as of `plan.preview`.

    Raises:
        ClipshiftError: no job of the study has run in this folder.
    """
    cfg, options = study_of(configfiles, data, directory, gpus)
    jobs = dry_run([*options, "--forceall", "--", *targets])
    rows = compare(cfg, jobs, directory)
    if not rows:
        raise ClipshiftError(
            f"{directory.absolute()}: no job of the study {cfg.study} has run here; give the "
            "folder of its results with --directory"
        )
    print(text(cfg, rows, sum(row.jobs for row in rows)))
