"""How a job's resources are said to sbatch, where Snakemake's Slurm plugin cannot say it.

The plugin refuses GPU types with hyphens and lists of generic resources, knows memory of a job or
of a CPU by different resources, and puts `slurm_extra` into a shell's line as it is. So its
functions that write the line are replaced by these, for the version that `envs/` locks.
"""

import math
import os
import re
import shlex
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.study.cluster.names import IN_USE, Cluster, in_use, locate, read, scratch_prefix

# A word of sbatch's that names generic resources, with room for their number.
_GRES = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:,=-]*")


def use() -> Cluster:
    """The cluster of `read`, for the profile; from here on `needs` asks for its names."""
    path = locate()
    cluster = read(path)
    os.environ[IN_USE] = str(path.absolute())
    import snakemake_executor_plugin_slurm as plugin

    plugin.set_gres_string = gpu_words
    original = getattr(plugin.get_submit_command, "func", plugin.get_submit_command)
    plugin.get_submit_command = partial(submit_command, original, cluster)
    return cluster


def prepare(shell: Any) -> None:
    """Snakemake's `shell` as a job of this cluster needs it; for each process that reads rules."""
    if in_use():
        from clipshift.study.cluster.quoting import quote_words

        quote_words()
    if prefix := scratch_prefix():
        shell.prefix(prefix)


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


def gpu_words(job: Any) -> str:
    """The words of sbatch that ask for the GPUs of a job, with a blank before."""
    gpus = job.resources.get("gpu") or 0
    model = str(job.resources.get("gpu_model") or "")
    gres = str(job.resources.get("gres") or "")
    if gres and (gpus or "{gpus}" not in gres):
        gres = gres.replace("{gpus}", str(gpus)).replace("{model}", model)
        return f" --gres={_checked(gres, 'gres')}"
    if not gpus:
        return ""
    return f" --gpus={_checked(model, 'gpu_model')}:{gpus}" if model else f" --gpus={gpus}"


def _checked(word: str, key: str) -> str:
    if not _GRES.fullmatch(word):
        raise ClipshiftError(f"resource {key}: {word!r} is no name of generic resources of Slurm")
    return word


class _Resources(dict[str, Any]):
    """Resources as the plugin asks for them: by key or by attribute."""

    __getattr__ = dict.__getitem__


def submit_command(
    original: Callable[..., str], cluster: Cluster, job: Any, *words: Any, **more: Any
) -> str:
    """The plugin's line for sbatch, with memory as the cluster wants it, and extra words quoted."""
    resources = _Resources(job.resources.items())
    if extra := resources.get("slurm_extra"):
        try:
            resources["slurm_extra"] = shlex.join(shlex.split(str(extra)))
        except ValueError as error:
            raise ClipshiftError(f"resource slurm_extra: {extra!r}: {error}") from None
    if cluster.memory == "cpu" and resources.get("mem_mb"):
        resources["mem_mb_per_cpu"] = math.ceil(resources["mem_mb"] / cores(resources, job.threads))
    elif cluster.memory == "none":
        resources |= {"mem_mb": 0, "mem_mb_per_cpu": 0}
    return original(SimpleNamespace(resources=resources, threads=job.threads), *words, **more)


def cores(resources: dict[str, Any], threads: int) -> int:
    """Cores of a job, as the plugin asks for them."""
    of_gpus = (resources.get("gpu") or 0) * (resources.get("cpus_per_gpu") or 0)
    return max(resources.get("cpus_per_task") or of_gpus or threads, 1)
