"""What runs in a folder, how far it is, what is left to make, and the last errors."""

import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from clipshift.apps.runs.command import holders, locked, numbers, orphans
from clipshift.core import job_logs
from clipshift.core.errors import ClipshiftError
from clipshift.study.invoke import ask
from clipshift.study.last_run import Run, read
from clipshift.study.planning.costs import base_rule
from clipshift.study.planning.preview import refusal
from clipshift.study.planning.text import duration

# Files, and jobs, that are named.
SHOWN = 12
_JOB = re.compile(r"^(?:local)?rule (\w+):$")
_ID = re.compile(r"^    jobid: (\d+)$")
_LOG = re.compile(r"^    log: (\S+)")
_END = re.compile(r"^(?:Finished jobid: (\d+) |    jobid: (\d+)$)")
_STEPS = re.compile(r"^(\d+) of (\d+) steps", re.MULTILINE)


def status(folder: Path, targets: Sequence[str], own: Sequence[str]) -> str:
    """The whole text.

    Args:
        targets: none: those of the last run.
        own: Snakemake's options where no run is recorded, or another study is asked for.
    """
    run = read(folder)
    lines = [*_process(folder, run)]
    if run:
        lines += _progress(folder, run)
    words = list(own) or (run.options if run else [])
    asked = list(targets) or (run.targets if run and not own else [])
    lines += _left(ask(
        ["--summary", *words, *(["--", *asked] if asked else [])],
        Path(run.origin) if run and not own else None,
    ))  # fmt: skip
    if run and (told := job_logs.told(folder / "results/logs", run.started)):
        lines += ["", "Notes and errors of its jobs:", told.rstrip()]
    return "\n".join(lines)


def _process(folder: Path, run: Run | None) -> Iterator[str]:
    """Who works here, and whether the folder is locked."""
    alive = holders(folder)
    if run is None:
        yield f"{folder.absolute()}: no run is recorded"
    else:
        age = duration(time.time() - run.started)
        if run.ended is not None:
            end = "ended well" if run.ok else "ended with failed jobs: `clipshift resume` goes on"
        elif run.alive():
            end = f"runs, process {run.pid}"
        elif run.here:
            end = "was killed: `clipshift resume` goes on"
        else:
            end = f"process {run.pid} on {run.host}, which cannot be asked from here"
        yield f"Last run, begun {age} ago: {end}"
        yield f"  {shlex.join(['snakemake', *run.words()])}"
    if not alive and (left := orphans(folder)):
        yield f"Jobs go on without Snakemake: process {numbers(left)}"
    if locked(folder):
        held = alive or ([run.pid] if run and run.alive() else [])
        yield f"Locked by process {numbers(held)}" if held else "Locked by a run that was killed"


def _progress(folder: Path, run: Run) -> Iterator[str]:
    """How far the last run is, from Snakemake's log of it."""
    logs = sorted((folder / ".snakemake/log").glob("*.snakemake.log"))
    # A dry run has a log as well, without steps.
    texts = (log.read_text(errors="replace") for log in reversed(logs[-20:]))
    text = next((text for text in texts if _JOB.search(text) or _STEPS.search(text)), "")
    if steps := _STEPS.findall(text):
        done, total = map(int, steps[-1])
        yield f"Jobs of it: {done} of {total} done ({100 * done // max(total, 1)} %)"
    if run.alive():
        jobs = list(running(text))
        for rule, log in jobs[:SHOWN]:
            yield f"  runs: {rule}" + (f"  ({log})" if log else "")
        if len(jobs) > SHOWN:
            yield f"  and {len(jobs) - SHOWN} more"


def running(text: str) -> Iterator[tuple[str, str]]:
    """Rule and log of jobs that began and did not end, by Snakemake's log."""
    jobs: dict[str, tuple[str, str]] = {}
    rule, log, failed = "", "", False
    for line in text.splitlines():
        if found := _JOB.match(line):
            rule, log, failed = found[1], "", False
        elif line.startswith("Error in rule "):
            rule, failed = "", True
        elif found := _LOG.match(line):
            log = found[1].rstrip(",")
        elif rule and (found := _ID.match(line)):
            jobs[found[1]] = rule, log
            rule = ""
        elif (found := _END.match(line)) and (found[1] or failed):
            jobs.pop(found[1] or found[2], None)
    yield from jobs.values()


def _left(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What is made and what is not, from Snakemake's summary of the plan.

    Raises:
        ClipshiftError: Snakemake refuses the targets or the configuration.
    """
    if done.returncode:
        raise ClipshiftError(refusal(done.stdout + done.stderr))
    rows = [line.split("\t") for line in done.stdout.splitlines() if line.count("\t") == 5]
    rows = [row for row in rows if row[0] != "output_file"]
    left = [row for row in rows if row[5] != "no update"]
    if not left:
        return [f"Made: all {len(rows)} files"]
    lines = [f"Made: {len(rows) - len(left)} of {len(rows)} files; to be made, by rule:"]
    whole = Counter(base_rule(row[2]) for row in rows)
    for rule, count in Counter(base_rule(row[2]) for row in reversed(left)).items():
        lines.append(f"  {rule:24} {count:6,} of {whole[rule]:,}")
    for why, count in Counter(row[4] for row in left if row[4] not in ("missing", "ok")).items():
        lines.append(f"  {count:,} of them are there, and are made again: {why}")
    missing = [row[0] for row in reversed(left) if row[4] == "missing"]
    lines += [f"Missing: {file}" for file in missing[:SHOWN]]
    if len(missing) > SHOWN:
        lines.append(f"  and {len(missing) - SHOWN:,} more")
    return lines
