"""A Slurm cluster's names, for `profiles/slurm`: one file, read when the profile is.

The file is `profiles/slurm/cluster.yaml`, or the one that `$CLIPSHIFT_CLUSTER` names.
"""

import os
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.data import Block

VARIABLE = "CLIPSHIFT_CLUSTER"
# Set where the profile is read: the file of names, for the rules of this run and of its jobs.
IN_USE = "CLIPSHIFT_CLUSTER_IN_USE"
DAY = 1440  # minutes
SHIPPED = Path(__file__).parents[3] / "profiles/slurm/cluster.yaml"
# What one question to Slurm may take: a login whose accounting hangs must not hold up a run.
PATIENCE = 20
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.,-]*$"


class Cluster(Block):
    """The names and limits that differ from one cluster to the next."""

    account: str | None = Field(
        default=None, pattern=_NAME, description="`sbatch --account`; null: the user's default."
    )
    cpu_partition: str = Field(pattern=_NAME, description="Partition of jobs without a GPU.")
    gpu_partition: str = Field(pattern=_NAME, description="Partition of jobs with GPUs.")
    gpu_model: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.]+$",
        description="The GPUs' type as `sinfo -o %G` shows it; null: any GPU of the partition.",
    )
    cpus_per_gpu: int = Field(default=12, ge=1, description="Cores that come with each GPU.")
    scratch: str | None = Field(
        default=None,
        pattern=r"^[\w./$-]+$",
        description="Folder of the nodes for temporary files, e.g. `/scratch/$USER`; variables are "
        "those of the node. null: the node's TMPDIR or /tmp.",
    )
    status: Literal["auto", "sacct", "squeue"] = Field(
        default="auto",
        description="Who is asked how jobs fare. auto: sacct where it answers, else squeue.",
    )
    jobs: int = Field(default=100, ge=1, description="Jobs in the queue at the same time.")
    submissions: str = Field(
        default="1/1s",
        pattern=r"^\d+/\d+[smh]$",
        description="Most submissions within a time, e.g. 1/1s or 60/1m (sixty at once, then a "
        "pause).",
    )
    first_check: int = Field(
        default=40,
        ge=1,
        description="Seconds before jobs are first asked for, and again after each that ended.",
    )

    def status_command(self) -> str:
        """`sacct` or `squeue`: a sacct that fails would leave a run waiting for ever."""
        if self.status != "auto":
            return self.status
        return "sacct" if _answers("sacct", "-X", "--noheader", "--starttime=now") else "squeue"


Amount = int | Callable[[Any], int]


def needs(memory: Amount, minutes: Amount, gpus: Amount = 0) -> dict[str, Any]:
    """The resources of a rule: numbers, or functions of a job's wildcards.

    Each further attempt of a job gets as much memory and time again; times of more than a day do
    not grow, since partitions have a limit. In a run with `--profile slurm` the partition, the
    account and the type of the GPUs are those of the cluster.

    Args:
        memory: MB.
        gpus: of one machine.
    """

    def value_of(amount: Amount, wildcards: Any) -> int:
        return amount(wildcards) if callable(amount) else amount

    def runtime(wildcards: Any, attempt: int) -> int:
        first = value_of(minutes, wildcards)
        return first if first > DAY else first * attempt

    resources: dict[str, Any] = {
        "mem_mb": lambda wildcards, attempt: value_of(memory, wildcards) * attempt,
        "runtime": runtime,
    }
    if gpus:
        resources["gpu"] = gpus
    if cluster := in_use():
        on = {True: cluster.gpu_partition, False: cluster.cpu_partition}
        resources["slurm_partition"] = lambda wildcards: on[value_of(gpus, wildcards) > 0]
        if cluster.account:
            resources["slurm_account"] = cluster.account
        if gpus:
            resources["cpus_per_gpu"] = cluster.cpus_per_gpu
            # A type of GPU without a GPU is a request that Slurm refuses.
            resources["gpu_model"] = lambda w: (
                cluster.gpu_model if cluster.gpu_model and value_of(gpus, w) else ""
            )
    return resources


def ask_only(command: str) -> str:
    """Make the Slurm plugin ask with this command, whatever happens; returns the command.

    Where `squeue` is to be asked, the plugin still turns to `sacct` when `scontrol` does not tell
    for how long ended jobs are remembered: with a controller that is away for a moment, a run on a
    login without accounting would ask a disabled sacct for ever. So the plugin is told "long
    enough"; its warning at the start, where the cluster forgets too soon, is another function's.
    """
    if command == "squeue":
        import snakemake_executor_plugin_slurm as plugin

        plugin.get_min_job_age = lambda: 10**6
    return command


def _answers(*command: str) -> bool:
    """Whether a command exists and ends well in time."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def read(path: Path | None = None) -> Cluster:
    """The cluster of a file; without one `$CLIPSHIFT_CLUSTER`, else the shipped file.

    Raises:
        ClipshiftError: no such file, not YAML, or a key that is unknown, missing or wrong.
    """
    path = path or Path(os.environ.get(VARIABLE) or SHIPPED)
    try:
        raw: Any = yaml.safe_load(path.read_text())
        return Cluster.model_validate(raw)
    except OSError as error:
        raise ClipshiftError(
            f"{path}: {error.strerror}; it holds the cluster's names (see {SHIPPED}), and "
            f"${VARIABLE} may name another file"
        ) from None
    except yaml.YAMLError as error:
        raise ClipshiftError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ClipshiftError(
            f"{path}: {'; '.join(faults)}. Keys: {', '.join(Cluster.model_fields)}"
        ) from None


def use() -> Cluster:
    """The cluster of `read`, for the profile; from here on `needs` asks for its names."""
    cluster = read()
    os.environ[IN_USE] = str(Path(os.environ.get(VARIABLE) or SHIPPED).absolute())
    return cluster


@cache
def in_use() -> Cluster | None:
    """The cluster whose profile this run was started with."""
    return read(Path(os.environ[IN_USE])) if IN_USE in os.environ else None


def scratch_prefix() -> str:
    """What comes before every shell line: temporary files go to the cluster's scratch folder."""
    cluster = in_use()
    if cluster is None or not cluster.scratch:
        return ""
    return f'set -euo pipefail; export TMPDIR="{cluster.scratch}"; mkdir -p "$TMPDIR"; '


def leftovers(folder: Path) -> list[str]:
    """Ids of this user's Slurm jobs that log into `folder`: those of a run that was killed."""
    command = ["squeue", "--me", "--noheader", "--Format=JobID:20,STDOUT:4096"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    logs = folder.resolve() / ".snakemake/slurm_logs"
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
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
