"""Kills at seeded random moments: of a job's program, of a job, of Snakemake with all its jobs."""

import os
import random
import signal
import time
from pathlib import Path

from tests.slurm.slurm import Cluster, Local, Run, processes
from tests.workflow.kills import check_no_parts, check_whole
from tests.workflow.runner import contract, snakemake

KILLS = int(os.environ.get("CLIPSHIFT_SLURM_KILLS", "10"))
# Seconds between two kills; a run starts to submit after about three.
PAUSES = (1.0, 8.0)


def test_random_kills_change_no_byte(cluster: Cluster, folder: Path, local: Local) -> None:
    """The small study, started again with the same command whenever it was killed or gave up."""
    chance, kinds = random.Random(KILLS), []
    whole = local()
    while True:
        run = Run(cluster, folder)
        try:
            while len(kinds) < KILLS and not ended(run, chance.uniform(*PAUSES)):
                kinds.append(kill(cluster, run, folder, chance))
            if run.process.poll() is None and len(kinds) == KILLS:
                run.process.wait(1800)
        finally:
            run.kill()
        clear(cluster, folder)
        check_whole(folder, whole)
        if len(kinds) == KILLS and run.process.returncode == 0:
            break
    assert contract(folder).keys() == whole.keys()
    check_no_parts(folder)
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))})


def ended(run: Run, seconds: float) -> bool:
    """Whether a run ends within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if run.process.poll() is not None:
            return True
        time.sleep(0.1)
    return False


def kill(cluster: Cluster, run: Run, folder: Path, chance: random.Random) -> str:
    """Kill one of three things; Snakemake where no job runs."""
    kind = chance.choice(["program", "job", "run"])
    running = [job["JobId"] for job in cluster.of_folder(folder) if job["JobState"] == "RUNNING"]
    if kind == "run" or not running:
        run.kill()
        return "run"
    job = chance.choice(running)
    if kind == "job":
        cluster.ask("scancel", job)
    else:
        for pid in processes(job):
            os.kill(pid, signal.SIGKILL)
    return kind


def clear(cluster: Cluster, folder: Path) -> None:
    """Cancel what a killed run left in the queue, as its successor's message asks; unlock."""
    left = [job["JobId"] for job in cluster.of_folder(folder) if alive(job)]
    if left:
        cluster.ask("scancel", *left)
    deadline = time.monotonic() + 60
    while any(alive(job) or processes(job["JobId"]) for job in cluster.of_folder(folder)):
        assert time.monotonic() < deadline, "cancelled jobs go on"
        time.sleep(0.2)
    snakemake(folder, "--unlock")


def alive(job: dict[str, str]) -> bool:
    return job["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
