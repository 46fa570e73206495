"""Submit two jobs through Snakemake and the slurm profile, wait, tell what came, clean up."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clipshift.apps.cluster_check import report
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json
from clipshift.core.step import ROOT
from clipshift.study.cluster import names, queue
from clipshift.study.invoke import environment

# Seconds that Snakemake may take to cancel its jobs, and to copy what a job has told.
PATIENCE = 30


def check(file: Path | None, gpus: int, seconds: float, directory: Path) -> str:
    """The report on both jobs.

    Args:
        file: the cluster's names; None: those that a run reads.
        seconds: until the jobs are cancelled.
        directory: seen by all nodes; files are below its `results/work` until this ends.

    Raises:
        ClipshiftError: a job did not come, or lacked something; with the whole report.
    """
    path = (file or names.locate()).absolute()
    cluster = names.read(path)
    if not shutil.which("sbatch"):
        raise ClipshiftError("sbatch: command not found; run cluster-check on a login node")
    work = directory.absolute() / "results/work"
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cluster-check-", dir=work))
    try:
        began = time.time()
        ended, text = _run(folder, path, gpus, seconds)
        kinds = {"cpu": 0} | ({"gpu": gpus} if gpus else {})
        parts, lacking = [], []
        for kind, count in kinds.items():
            part, faults = _judged(kind, count, folder, text, began, cluster, ended)
            parts.append(part)
            lacking += [f"{kind} job: {fault}" for fault in faults]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    head = f"cluster: {path}"
    if lacking:
        raise ClipshiftError("\n".join([head, *parts, "To mend:", *(f"  {x}" for x in lacking)]))
    return "\n".join([head, *parts, "Both jobs had what a study needs." if gpus else "It came."])


def _run(folder: Path, file: Path, gpus: int, seconds: float) -> tuple[bool, str]:
    """Whether Snakemake ended in time, and what it said; afterwards no job is left."""
    write_json(folder / "config.json", {"gpus": gpus})
    log = folder / "snakemake.log"
    command = [
        sys.executable, "-m", "snakemake", "--profile", str(ROOT / "profiles/slurm"),
        "--snakefile", str(ROOT / "workflow/cluster_check.smk"),
        "--configfile", str(folder / "config.json"), "--directory", str(folder),
        "--retries", "0", "--slurm-init-seconds-before-status-checks", "5", "--nocolor",
        "--max-status-checks-per-second", "1",
    ]  # fmt: skip
    env = environment() | {names.VARIABLE: str(file)}
    with log.open("wb") as stream:
        run = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    ended, why = False, ""
    try:
        run.wait(seconds)
        ended = True
    except subprocess.TimeoutExpired:
        why = _reasons(_submitted(log.read_text(errors="replace")))
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
            try:
                run.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
        jobs = {*_submitted(log.read_text(errors="replace")), *queue.leftovers(folder)}
        if jobs and (not ended or run.returncode):
            queue.ask("scancel", *sorted(jobs))
    return ended, log.read_text(errors="replace") + why


def _submitted(text: str) -> dict[str, str]:
    """Slurm's numbers of the jobs, and their kinds."""
    found = re.findall(r"SLURM jobid (\d+) \(log: .*?rule_(\w+)/", text)
    return dict(found)


def _reasons(jobs: dict[str, str]) -> str:
    """A line for each job that waits: `KIND waits: STATE, REASON`."""
    if not jobs:
        return ""
    form = "--Format=JobID:20,State:20,Reason:100"
    rows = [line.split() for line in queue.ask("squeue", f"--jobs={','.join(jobs)}", "-h", form)]
    return "".join(
        f"\n{jobs[row[0]]} waits: {', '.join(row[1:])}" for row in rows if row and row[0] in jobs
    )


def _judged(
    kind: str, gpus: int, folder: Path, text: str, began: float, cluster: names.Cluster, ended: bool
) -> tuple[str, list[str]]:
    """The lines of the report on a job, and what it lacked."""
    match = re.search(rf"^rule {kind}:.*?^    resources: (.*?)$", text, re.MULTILINE | re.DOTALL)
    words = match[1].split(", ") if match else ["nothing: the run did not come so far"]
    asked = ", ".join(w for w in words if not w.startswith(("tmpdir=", "mem=", "mem_mib=")))
    if (folder / f"{kind}.json").exists():
        found = read_json(folder / f"{kind}.json")
        told = " ".join(queue.ask("scontrol", "--oneliner", "show", "job", str(found["job"])))
        granted = re.search(r"\bTRES=(\S+)|\bAllocTRES=(\S+)", told)
        lines = report.arrived(
            kind, found, asked, granted[granted.lastindex or 0] if granted else "",
            max(found["began"] - began, 0),
        )  # fmt: skip
        return lines, report.faults(found, cluster, gpus, str(ROOT))
    if why := re.search(rf"^{kind} waits: (.*)$", text, re.MULTILINE):
        said = f"pending or running at the end of the time: {why[1]}"
    elif (log := folder / f"{kind}.log").exists() and log.stat().st_size:
        said = "it failed: " + _tail(log.read_text(errors="replace"))
    elif output := sorted((folder / f".snakemake/slurm_logs/rule_{kind}").rglob("*.log")):
        said = "it failed: " + _tail(output[-1].read_text(errors="replace"))
    elif kind in _submitted(text).values():
        said = (
            "it was submitted and wrote nothing"
            + ("" if ended else " in time")
            + f": do the nodes see {folder.parent} and {sys.executable}?"
        )
    else:
        said = _of(kind, text) or "it was not submitted: " + _tail(text)
    return f"{kind} job: did not come\n  asked     {asked}", [
        f"{said}\n    key: {report.advice(said)}"
    ]


def _of(kind: str, text: str) -> str:
    """What Snakemake says on the submission of a job that failed."""
    for match in re.finditer(
        r"SLURM sbatch failed\. The error message was '(.*?)'\.\s*sbatch call:\s*(.*?)$",
        text, re.MULTILINE | re.DOTALL,
    ):  # fmt: skip
        if f"rule_{kind}" in match[2]:
            return f"sbatch: {match[1].strip()}"
    return ""


def _tail(text: str, lines: int = 8) -> str:
    return "\n    ".join([line for line in text.splitlines() if line.strip()][-lines:])
