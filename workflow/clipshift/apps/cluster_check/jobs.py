"""What a job finds where it runs."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from clipshift.core.files import write_json
from clipshift.core.step import ROOT, step


@step(version=1)
def look(gpus: int, out: Path) -> None:
    """Write what this job has.

    Args:
        gpus: those that were asked for; without any torch is not imported.
    """
    began = time.time()
    with tempfile.TemporaryFile() as file:
        file.write(b"a file can be written")
    found: dict[str, Any] = {
        "began": began,
        "job": os.environ.get("SLURM_JOB_ID"),
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "partition": os.environ.get("SLURM_JOB_PARTITION"),
        "account": os.environ.get("SLURM_JOB_ACCOUNT"),
        "qos": os.environ.get("SLURM_JOB_QOS"),
        "cores": len(os.sched_getaffinity(0)),
        "tmpdir": tempfile.gettempdir(),
        "tmpdir_free_gb": shutil.disk_usage(tempfile.gettempdir()).free // 10**9,
        "checkout": str(ROOT),
    }
    if gpus:
        import torch

        found["torch"] = torch.__version__
        count = torch.cuda.device_count()
        found["gpus"] = [torch.cuda.get_device_name(i) for i in range(count)]
        found["visible"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        found["nvidia_smi"] = _nvidia_smi()
    write_json(out, found)


def _nvidia_smi() -> list[str]:
    """Names of GPUs and of their parts that the driver shows here."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [line.strip().partition(" (UUID")[0] for line in lines]
