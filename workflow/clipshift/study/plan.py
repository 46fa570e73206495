"""The cost preview: `clipshift plan [--configfile FILE...] [--profile NAME] [TARGET...]`.

One dry run of the same workflow says which jobs there are; the cost model (`costs`) says what each
takes. Nothing runs, no data need be there, and torch is never imported.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.job_logs import ERROR
from clipshift.core.step import ROOT
from clipshift.study.config.costs import Costs
from clipshift.study.config.folders import Outside
from clipshift.study.config.load import changes, load, merged
from clipshift.study.config.scale import described
from clipshift.study.config.study import Config
from clipshift.study.costs import Work, base_rule, job_cost
from clipshift.study.invoke import ask

_RULE = re.compile(r"^(?:local)?rule (\w+):$")
_WILDCARDS = re.compile(r"^    wildcards: (.*)$")
_GPUS = re.compile(r"^    resources: .*\bgpu=(\d+)")


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
    _busy: dict[int, float] = field(default_factory=dict)  # GPUs of a job -> seconds of all jobs
    _longest: float = 0.0

    def add(self, cfg: Config, work: Work) -> None:
        seconds = work.seconds(cfg)
        self.jobs += 1
        # A GPU that is held counts, whether it computes or waits for images.
        self.gpu += seconds * work.gpus
        self.cpu += max(work.cpu, seconds * work.gpus * cfg.costs.cores_per_gpu)
        self.read += work.read
        self.written += work.written
        self._busy[work.gpus] = self._busy.get(work.gpus, 0.0) + seconds
        self._longest = max(self._longest, seconds)
        side_by_side = sum(
            seconds / (max(1, cfg.costs.gpus // gpus) if gpus else cfg.costs.jobs)
            for gpus, seconds in self._busy.items()
        )
        self.wall = max(self._longest, side_by_side)


def planned_jobs(output: str) -> Iterator[tuple[str, dict[str, str], int]]:
    """Rule, wildcards and GPUs of each job in the output of a dry run."""
    rule, gpus = "", 0
    wildcards: dict[str, str] = {}
    for text in [*output.splitlines(), ""]:
        if rule_match := _RULE.match(text):
            rule, wildcards, gpus = rule_match.group(1), {}, 0
        elif rule and (wildcards_match := _WILDCARDS.match(text)):
            pairs = (pair.partition("=") for pair in wildcards_match.group(1).split(", "))
            wildcards = {key: value for key, _, value in pairs}
        elif rule and (gpu_match := _GPUS.match(text)):
            gpus = int(gpu_match.group(1))
        elif rule and not text.startswith("    "):
            yield rule, wildcards, gpus
            rule = ""


def dry_run(words: Sequence[str]) -> str:
    """The output of Snakemake's dry run.

    Raises:
        ClipshiftError: Snakemake refuses the target or the configuration.
    """
    done = ask(["--dry-run", *words])
    if done.returncode:
        raise ClipshiftError(refusal(done.stdout + done.stderr))
    return done.stdout + done.stderr


def refusal(output: str) -> str:
    """Why Snakemake refused a plan: our sentence, or the end of what it said."""
    _, mark, said = output.rpartition(ERROR)
    return said.strip() if mark else f"the dry run failed:\n{output[-3000:]}"


def summarise(cfg: Config, output: str) -> list[Line]:
    """A line per rule, in the order of first appearance of the jobs."""
    lines: dict[str, Line] = {}
    for rule, wildcards, gpus in planned_jobs(output):
        name = base_rule(rule)
        lines.setdefault(name, Line(name)).add(cfg, job_cost(cfg, rule, wildcards, gpus))
    return list(lines.values())


def table(cfg: Config, lines: Sequence[Line]) -> str:
    """The table for people."""
    head = ("rule", "jobs", "CPU-hours", "GPU-hours", "read", "written", "wall-clock")
    total = Line("total")
    for line in lines:
        for name in ("jobs", "cpu", "gpu", "read", "written", "wall"):
            setattr(total, name, getattr(total, name) + getattr(line, name))
    rows = [head, *map(_cells, [*lines, total])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    text = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * len(text[0])
    return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.rule,
        f"{line.jobs:,}",
        hours(line.cpu),
        hours(line.gpu),
        size(line.read),
        size(line.written),
        duration(line.wall),
    )


def hours(seconds: float) -> str:
    """Hours with two leading digits at least.

    >>> hours(0), hours(360), hours(3_600_000)
    ('0', '0.1', '1,000')
    """
    value = seconds / 3600
    if not value:
        return "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def size(value: float) -> str:
    """Bytes in powers of a thousand.

    >>> size(0), size(25_000), size(1.02e13)
    ('0', '25 kB', '10 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value else "0"
        value /= 1000
    return f"{value:,.1f} PB"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(90), duration(7200), duration(864_000)
    ('2 min', '2.0 h', '10.0 d')
    """
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def notes(cfg: Config) -> list[str]:
    """What the numbers do not say, and which folders are not there."""
    lines = [
        f"Wall-clock: rule after rule, on {cfg.costs.gpus} GPUs and {cfg.costs.jobs} CPU jobs at "
        "once. GPU-hours count a GPU that waits for images."
    ]
    if any(not isinstance(b, Outside) for b in {**cfg.pools, **cfg.sets}.values()):
        lines.append(
            "The sizes of built pools and sets are assumed (costs.built_samples), and the "
            "constants are those of large models on A100s: for a small study only the jobs are "
            "right."
        )
    if open_ended := [s for s in cfg.trained if cfg.splits[s].size is None]:
        lines.append(
            "Not known before: how much these splits keep, so how much of the pool a training of "
            f"theirs reads in vain (counted as none): {', '.join(open_ended)}."
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
    return [f"  {name} = {getattr(costs, name):g}  {f.description}" for name, f in fields.items()]


def report(cfg: Config, lines: Sequence[Line]) -> str:
    """The whole preview."""
    parts = [f"Study {cfg.study}: what is still to be done\n", table(cfg, lines), ""]
    parts += [*notes(cfg), "", "Constants (the block `costs` of the configuration):"]
    return "\n".join([*parts, *constants(cfg.costs)])


def preview(
    targets: Sequence[str], configfiles: Sequence[Path], data: str | None, directory: Path,
    gpus: int | None,
) -> str:  # fmt: skip
    """The preview of some targets (none: of the whole study).

    Args:
        data: folder of the data, `gpus`: GPUs at once; None: as configured.
        directory: where `results/` lies.
    """
    cfg = load(*configfiles)
    raw: dict[str, Any] = {} if data is None else {"data": data}
    if gpus:
        raw |= {"costs": cfg.costs.model_dump() | {"gpus": gpus}}
    cfg = Config.model_validate(cfg.model_dump() | raw)
    options = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(directory)]
    options += ["--configfile", *map(str, configfiles), "--cores", "1"]
    if data is not None:
        options += ["--config", f"data={yaml.safe_dump(data).splitlines()[0]}"]
    smaller = [*described(changes(merged(*configfiles)))]
    text = report(cfg, summarise(cfg, dry_run([*options, "--", *targets])))
    return "\n".join([*smaller, text])
