"""What came of the two jobs, and which key of the cluster's file to change."""

import re
from collections.abc import Mapping
from typing import Any

from clipshift.study.cluster.names import Cluster

# What Slurm and its plugin say, and the keys that it is about. The first that matches is told.
ADVICE = (
    (r"sbatch: (command )?not found|No such file or directory: '(sbatch|sinfo)'",
     "Slurm's commands are not on PATH here: run this on a login node"),
    (r"invalid account or account/partition", "account, or the partition that it may use"),
    (r"SLURM account '|invalid account", "account"),
    (r"invalid partition", "cpu_partition, gpu_partition"),
    (r"invalid qos", "qos"),
    (r"invalid feature|BadConstraints", "constraint"),
    (r"reservation", "reservation"),
    (r"generic resource|\bgres\b", "gpu_model (as `sinfo -o %G` shows it), gres"),
    (r"time limit|PartitionTimeLimit",
     "rules.RULE.runtime, or a partition or QoS that allows so long"),
    (r"memory specification|--mem|MaxMemPer", "memory, rules.RULE.mem_mb"),
    (r"node configuration is not available|PartitionConfig",
     "gpu_partition, gpu_model, cpus_per_gpu, constraint or rules.RULE.mem_mb: no node has it all"),
    (r"unrecognized option|invalid option", "extra"),
    (r"QOS|Assoc", "qos or account: a limit of theirs is reached"),
    (r"Resources|Priority|ReqNodeNotAvail|Reserved",
     "nothing: the cluster is busy; wait longer (--minutes)"),
)  # fmt: skip


def advice(text: str) -> str:
    """The key to change, as far as a message or a reason of Slurm's tells it."""
    found = (keys for pattern, keys in ADVICE if re.search(pattern, text, re.IGNORECASE))
    return next(found, "see docs/cluster.md")


def arrived(kind: str, found: Mapping[str, Any], asked: str, granted: str, waited: float) -> str:
    """The lines on a job that ran.

    Args:
        granted: what Slurm says that it gave ('' where it does not).
        waited: seconds from the start of the command.
    """
    names = {key: found[key] for key in ("partition", "account", "qos") if found[key]}
    lines = [
        f"{kind} job {found['job']}: came to {found['node']} after {waited:.0f} s",
        f"  asked     {asked}",
        f"  granted   {granted or 'Slurm does not say'}",
        f"  sees      {found['cores']} cores"
        + "".join(f", {key} {value}" for key, value in names.items()),
        f"  TMPDIR    {found['tmpdir']}, {found['tmpdir_free_gb']} GB free",
        f"  checkout  {found['checkout']}",
    ]
    if "gpus" in found:
        lines.append(f"  torch     {found['torch']}: {_list(found['gpus'])}")
        lines.append(f"  driver    {_list(found['nvidia_smi'])}")
    return "\n".join(lines)


def _list(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "sees no GPU"


def faults(found: Mapping[str, Any], cluster: Cluster, gpus: int, expected: str) -> list[str]:
    """What a job should have had and has not.

    Args:
        expected: the folder of the checkout that submitted it.
    """
    lacking = []
    seen = len(found["gpus"]) if gpus else 0
    if seen < gpus and found["nvidia_smi"]:
        lacking.append(
            f"torch {found['torch']} sees {seen} of {gpus} GPUs, the driver shows "
            f"{_list(found['nvidia_smi'])}: install envs/gpu.txt, or change gpu_model or gres "
            "(CUDA takes one MIG part a process)"
        )
    elif seen < gpus and found["visible"]:
        lacking.append(
            f"Slurm gave GPU {found['visible']} (CUDA_VISIBLE_DEVICES), and neither torch nor the "
            "driver sees it: ask the cluster's people; in a container, --nv"
        )
    elif seen < gpus:
        lacking.append(f"{gpus} GPUs were asked for, none came: gpu_partition, gpu_model, gres")
    cores = (cluster.request("gpu", gpus).cpus_per_gpu or 0) * gpus
    if found["cores"] < cores:
        lacking.append(f"{found['cores']} of {cores} cores: cpus_per_gpu (or gres: true)")
    if found["checkout"] != expected:
        lacking.append(
            f"it ran the code of {found['checkout']}, not {expected}: a variable PYTHONPATH or "
            "another checkout under this path on the node"
        )
    return lacking
