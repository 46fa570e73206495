"""Start a training on as many processes as it has: by itself, or torchrun with one for each GPU.

On GPUs the processes speak through NCCL, on a CPU (`processes`) through gloo.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.processes import run_bound
from clipshift.core.step import Job
from clipshift.study.config.study import Training

# Shards of a training copy: enough for their order to matter, few enough to open quickly.
COPY_SHARDS = 8
# Processes per GPU that read and decode; each needs a shard of its own.
WORKERS = 4
# Variables by which open_clip would take the place in a cluster's job for one among its processes.
_FOREIGN = ("SLURM_", "PMI_", "OMPI_", "MPI_")


def copy_shards(training: Training) -> int:
    """Shards of a training copy: as many for each process that reads, `COPY_SHARDS` at least."""
    readers = training.world * (WORKERS if training.gpus else 1)
    return -(-COPY_SHARDS // readers) * readers


def workers(training: Training, shards: int) -> int:
    """Processes beside each process of a training that read and decode (none on a CPU).

    Raises:
        ClipshiftError: there are fewer shards than processes.
    """
    if shards < training.world:
        raise ClipshiftError(
            f"{training.world} processes of a training cannot share {shards} tars; use "
            "`read: copy`, or fewer `gpus` or `processes`"
        )
    return min(WORKERS, shards // training.gpus) if training.gpus else 0


def share(training: Training) -> int:
    """Samples of one process in one pass: its share of a batch, in as many parts as accumulate."""
    return training.batch // (training.world * training.accumulation)


def program(training: Training, module: str = "clipshift.training.open_clip_main") -> list[str]:
    """The words that start a module of Python on all processes of a training.

    `--standalone` picks a free port, so two trainings can share a machine.
    """
    command = [sys.executable, "-m"]
    if training.world > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={training.world}"]
        # Without `--` torchrun takes options of ours for abbreviations of its own.
        command += ["-m", "--"]
    return [*command, module]


def check_gpus(training: Training) -> None:
    """Refuse to train where the job has fewer GPUs than the model's key `gpus`.

    open_clip would go on with the CPU.
    """
    visible = torch.cuda.device_count() if training.gpus else 0
    if visible < training.gpus:
        raise ClipshiftError(
            f"the model wants {training.gpus} GPUs (its key `gpus`) and this job sees {visible}; "
            "ask the cluster for as many, or set `gpus` to what there is (it is part of the result)"
        )


def start(command: Sequence[str], more: Mapping[str, str]) -> int:
    """Run a training and return its exit code; it ends when this process does.

    Args:
        more: variables added to the environment, from which those of a cluster's job are removed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    return run_bound(command, environment | dict(more))


def start_step(training: Training, step: str, arguments: dict[str, Any]) -> int:
    """Run a step on all processes of a training and return their exit code."""
    with NamedTemporaryFile("w", suffix=".json") as file:
        file.write(str(Job(step, {}, lambda: arguments)))
        file.flush()
        return start([*program(training, "clipshift.core.step"), step, file.name], {})
