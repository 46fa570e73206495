"""The cost preview: `clipshift plan [--configfile FILE...] [TARGET...]`.

One dry run of the same workflow says which jobs there are and what they ask the cluster for; the
cost model (`costs`) says what each takes. Nothing runs, no data need be there, and torch is never
imported.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.job_logs import ERROR
from clipshift.core.step import ROOT
from clipshift.study.cluster import IN_USE, locate, read
from clipshift.study.config.costs import Costs
from clipshift.study.config.folders import Outside
from clipshift.study.config.load import changes, load, merged
from clipshift.study.config.scale import described
from clipshift.study.config.study import Config
from clipshift.study.invoke import ask
from clipshift.study.planning.ends import faults
from clipshift.study.planning.limits import minutes
from clipshift.study.planning.planned import Job, planned_jobs
from clipshift.study.planning.schedule import Schedule, schedule
from clipshift.study.planning.seeds import shown
from clipshift.study.planning.text import duration, hours, size

# Rules of a chain that are named.
NAMED = 12


@dataclass
class Line:
    """The jobs of a rule together. Times in seconds; `wall` where its jobs run side by side."""

    rule: str
    jobs: int = 0
    cpu: float = 0.0
    gpu: float = 0.0
    read: float = 0.0
    written: float = 0.0
    wall: float = 0.0
    longest: float = 0.0
    limit: int = 0
    starts: int = 1
    memory: int = 0
    _busy: dict[int, float] = field(default_factory=dict)  # GPUs of a job -> seconds of all jobs

    def add(self, cfg: Config, job: Job) -> None:
        work = job.work(cfg)
        seconds = work.seconds(cfg)
        self.jobs += 1
        if given := job.asked.get("runtime", 0):
            self.starts = max(self.starts, -(-minutes(cfg, seconds) // given))
        self.limit = max(self.limit, given)
        self.memory = max(self.memory, job.asked.get("mem_mb", 0))
        # A GPU that is held counts, whether it computes or waits for images.
        self.gpu += seconds * work.gpus
        self.cpu += max(work.cpu, seconds * work.gpus * cfg.costs.cores_per_gpu)
        self.read += work.read
        self.written += work.written
        self._busy[work.gpus] = self._busy.get(work.gpus, 0.0) + seconds
        self.longest = max(self.longest, seconds)
        side_by_side = sum(
            seconds / (max(1, cfg.costs.gpus // gpus) if gpus else cfg.costs.jobs)
            for gpus, seconds in self._busy.items()
        )
        self.wall = max(self.longest, side_by_side)


def dry_run(words: Sequence[str]) -> list[Job]:
    """The jobs of Snakemake's dry run, with what they would ask the cluster for.

    Raises:
        ClipshiftError: Snakemake refuses the target or the configuration, or there is no such file
            of the cluster's names.
    """
    file = locate()
    read(file)
    done = ask(["--dry-run", *words], more={IN_USE: str(file.absolute())})
    if done.returncode:
        raise ClipshiftError(refusal(done.stdout + done.stderr))
    return list(planned_jobs(done.stdout + done.stderr))


def refusal(output: str) -> str:
    """Why Snakemake refused a plan: our sentence, or the end of what it said."""
    _, mark, said = output.rpartition(ERROR)
    return said.strip() if mark else f"the dry run failed:\n{output[-3000:]}"


def summarise(cfg: Config, jobs: Iterable[Job]) -> list[Line]:
    """A line per rule, in the order of first appearance of the jobs."""
    lines: dict[str, Line] = {}
    for job in jobs:
        lines.setdefault(job.name, Line(job.name)).add(cfg, job)
    return list(lines.values())


def table(lines: Sequence[Line]) -> str:
    """The table for people."""
    head = ("rule", "jobs", "CPU-hours", "GPU-hours", "read", "written", "longest job", "limit",
            "memory", "wall-clock")  # fmt: skip
    total = Line("total")
    for line in lines:
        for name in ("jobs", "cpu", "gpu", "read", "written", "wall"):
            setattr(total, name, getattr(total, name) + getattr(line, name))
    return columns([head, *map(_cells, lines)], _cells(total))


def columns(rows: Sequence[Sequence[str]], last: Sequence[str] = ()) -> str:
    """Rows of cells under a line, the first row above it; a `last` row under another."""
    whole = [*rows, last] if last else rows
    widths = [max(len(row[i]) for row in whole) for i in range(len(rows[0]))]
    text = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in whole
    ]
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1 : len(rows)], *([rule, text[-1]] if last else [])])


def _cells(line: Line) -> tuple[str, ...]:
    limit = f"{line.starts} x " * (line.starts > 1) + duration(line.limit * 60)
    return (
        line.rule,
        f"{line.jobs:,}",
        hours(line.cpu),
        hours(line.gpu),
        size(line.read),
        size(line.written),
        duration(line.longest) if line.longest else "",
        limit if line.limit else "",
        size(line.memory * 1e6) if line.memory else "",
        duration(line.wall),
    )


def ending(cfg: Config, lines: Sequence[Line], plan: Schedule) -> list[str]:
    """When the whole ends, and what it takes."""
    chain = [(rule, len([*some])) for rule, some in groupby(job.name for job in plan.chain)]
    named = " > ".join(f"{n} x {rule}" if n > 1 else rule for rule, n in chain)
    return [
        f"GPU-hours: {hours(sum(line.gpu for line in lines))}, those that a GPU waits for images "
        "among them.",
        f"Longest chain: {duration(plan.seconds)}, whatever the number of GPUs: {named}.",
        f"Wall-clock: {duration(plan.wall)} on {cfg.costs.gpus} GPUs and {cfg.costs.jobs} CPU "
        "jobs at once, as planned and without waiting in a queue; rules run side by side, so it "
        "is less than the sum of the column.",
        f"Disk: {size(plan.kept)} stay, and up to {size(plan.scratch)} beside them while jobs run.",
        f"Limit: what a job asks the cluster for, {cfg.costs.margin:g} times what is planned "
        f"(`costs.margin`) and {duration(cfg.costs.least_minutes * 60)} at least; N x: as many "
        "starts, each at the last checkpoint.",
    ]


def notes(cfg: Config) -> list[str]:
    """What the numbers do not say, and which folders are not there."""
    lines = []
    if any(not isinstance(b, Outside) for b in {**cfg.pools, **cfg.sets}.values()):
        lines.append(
            "The sizes of built pools and sets are assumed (costs.built_samples), and the "
            "constants are those of large models on A100s: for a small study only the jobs are "
            "right."
        )
    if open_ended := [s for s in cfg.trained if cfg.splits[s].size is None]:
        lines.append(
            "Not known before: how much these splits keep, so how much of the pool a training of "
            f"theirs is (counted as `costs.kept_share` of the pool): {', '.join(open_ended)}."
        )
    absent: dict[Path, list[str]] = {}
    for name, block in cfg.folders.items():
        place = (Path(cfg.data) / block.folder).absolute()
        if not place.is_dir():
            absent.setdefault(place, []).append(name)
    lines += [f"Not there yet: {place} ({', '.join(names)})" for place, names in absent.items()]
    return lines


def constants(costs: Costs) -> list[str]:
    """Every constant with its description."""
    fields = type(costs).model_fields
    values = {name: getattr(costs, name) for name in fields}
    return [
        f"  {name} = {value if isinstance(value, dict) else f'{value:g}'}  "
        f"{fields[name].description}"
        for name, value in values.items()
    ]


def report(cfg: Config, jobs: Sequence[Job]) -> str:
    """The whole preview."""
    lines = summarise(cfg, jobs)
    parts = [f"Study {cfg.study}: what is still to be done\n", table(lines), ""]
    parts += [*ending(cfg, lines, schedule(cfg, jobs)), *notes(cfg), ""]
    parts += [
        f"Seeds, where trainings vary by {100 * cfg.costs.training_sd:g} points (`training_sd`) "
        f"and two models differ on {100 * cfg.costs.disagreement:g} % of the images "
        "(`disagreement`); 95 % intervals, in four of five studies:\n",
        columns([*shown(cfg)]), "",
    ]  # fmt: skip
    parts += ["Constants (the block `costs` of the configuration):", *constants(cfg.costs)]
    return "\n".join(parts)


def study_of(
    configfiles: Sequence[Path], data: str | None, directory: Path, gpus: int | None
) -> tuple[Config, list[str]]:  # fmt: skip
    """A study, and Snakemake's options for it; as `preview`."""
    cfg = load(*configfiles)
    raw: dict[str, Any] = {} if data is None else {"data": data}
    if gpus:
        raw |= {"costs": cfg.costs.model_dump() | {"gpus": gpus}}
    cfg = Config.model_validate(cfg.model_dump() | raw)
    options = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(directory)]
    options += ["--configfile", *map(str, configfiles), "--cores", "1"]
    if data is not None:
        options += ["--config", f"data={yaml.safe_dump(data).splitlines()[0]}"]
    return cfg, options


def preview(
    targets: Sequence[str], configfiles: Sequence[Path], data: str | None, directory: Path,
    gpus: int | None,
) -> None:  # fmt: skip
    """Print the preview of some targets (none: of the whole study).

    Args:
        data: folder of the data, `gpus`: GPUs at once; None: as configured.
        directory: where `results/` lies.

    Raises:
        ClipshiftError: some of the jobs would not end.
    """
    cfg, options = study_of(configfiles, data, directory, gpus)
    for line in described(changes(merged(*configfiles))):
        print(line)
    jobs = dry_run([*options, "--", *targets])
    print(report(cfg, jobs))
    if wrong := faults(cfg, jobs):
        raise ClipshiftError("\n  ".join(["this plan does not end.", *wrong]))
