"""Start a training on as many processes as it has: by itself, or torchrun with one for each GPU.

On GPUs the processes speak through NCCL, on a CPU (`processes`) through gloo.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import sha256_file, sha256_json
from clipshift.core.locks import exclusive, wait_for
from clipshift.core.processes import run_bound
from clipshift.core.step import Job
from clipshift.study.config.trainings import Training
from clipshift.training.failures import PROCESSES

LOG = logging.getLogger(__name__)

# Shards of a training copy: enough for their order to matter, few enough to open quickly.
COPY_SHARDS = 8
# Processes per GPU that read and decode; each needs a shard of its own.
WORKERS = 4
# Environment variable that tells open_clip's program in how many parts an epoch's weights are kept;
# 0: none are.
EPOCH_PARTS = "CLIPSHIFT_EPOCH_PARTS"
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
        command += ["clipshift.training.torchrun", "--standalone"]
        command += [f"--nproc-per-node={training.world}"]
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


@contextmanager
def alone(work: Path, model: Path, identity: dict[str, Any]) -> Iterator[bool]:
    """Hold the lock of a training, beside its work folder, and wait for all of its processes.

    Gives whether an earlier start of this very training, which this one waited for, finished it.
    """
    with exclusive(work.with_name(f"{work.name}.lock")) as held:
        wait_for(work / PROCESSES)
        finished = bool(held.earlier) and held.earlier == _results(model, identity)
        if finished:
            LOG.info(f"an earlier start of this training has written {model}")
        yield finished
        held.left = _results(model, identity)


def _results(model: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """What a training has written, and which one it is; nothing where a file is missing."""
    files = [model.with_name(name) for name in (model.name, "record.json", "loss.csv")]
    if not all(file.exists() for file in files):
        return {}
    digests = {file.name: sha256_file(file) for file in files}
    return {"training": sha256_json(identity), **digests}
