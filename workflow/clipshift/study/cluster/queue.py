"""Slurm's commands on this machine: who knows how jobs fare, and which jobs an earlier run left."""

import subprocess
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.study.cluster.names import Cluster

# What one question to Slurm may take: a login whose accounting hangs must not hold up a run.
PATIENCE = 20


def status_command(cluster: Cluster) -> str:
    """`sacct` or `squeue`: a sacct that fails would leave a run waiting for ever."""
    if cluster.status != "auto":
        return cluster.status
    return "sacct" if _answers("sacct", "-X", "--noheader", "--starttime=now") else "squeue"


def ask(*command: str) -> list[str]:
    """The lines that a command answers; none where it is missing, or takes too long."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def _answers(*command: str) -> bool:
    """Whether a command exists and ends well in time."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def leftovers(folder: Path) -> list[str]:
    """Ids of this user's Slurm jobs that log into `folder`: those of a run that was killed."""
    lines = ask("squeue", "--me", "--noheader", "--Format=JobID:20,STDOUT:4096")
    logs = folder.resolve() / ".snakemake/slurm_logs"
    rows = [line.split(maxsplit=1) for line in lines]
    return [row[0] for row in rows if len(row) == 2 and Path(row[1].strip()).is_relative_to(logs)]


def refuse_leftovers(folder: Path) -> None:
    """Two jobs must not write the same files.

    Snakemake forgets the jobs of a run that was killed (SIGKILL, a login node that went down); they
    go on, and a second run would submit them once more.

    Raises:
        ClipshiftError: such jobs are there.
    """
    if jobs := leftovers(folder):
        raise ClipshiftError(
            f"{len(jobs)} Slurm jobs of an earlier run still work in {folder}: wait until they "
            f"have ended, or end them, then run again:\n  scancel {' '.join(jobs)}"
        )
