"""What a rule asks for: memory, time and GPUs, with the names of the cluster in use."""

import shlex
from collections.abc import Callable
from typing import Any

from clipshift.study.cluster.names import WEEK, Cluster, Request, in_use, plain_rule
from clipshift.study.config.costs import Costs
from clipshift.study.config.study import Config
from clipshift.study.planning.limits import Limit, limit

# Resources of the plugin, and the keys that say them.
NAMES = {
    "slurm_partition": "partition",
    "slurm_account": "account",
    "qos": "qos",
    "constraint": "constraint",
}
Amount = int | Callable[[Any], int]


def longest(cluster: Cluster | None, gpus: int) -> int:
    """Minutes that a partition gives a job at most."""
    return (cluster.longest.of(gpus) if cluster else None) or WEEK


def needs(cfg: Config | None, memory: Amount, *, gpus: Amount = 0) -> dict[str, Any]:
    """The resources of a rule: numbers, or functions of a job's wildcards.

    Time and memory are those of the cost model (`study.planning.limits`). Each further attempt
    of a job gets as much again, time up to what the partition gives. In a run with `--profile
    slurm` everything else is what the cluster's file says on the rule. Each is a resource of
    its own, so that another value on the command line (`--set-resources train:runtime=1440`)
    changes that one only.

    Args:
        cfg: the study; None: a rule of none.
        memory: MB at least.
        gpus: of one machine.
    """
    cluster = in_use()

    def value_of(amount: Amount, wildcards: Any) -> int:
        return amount(wildcards) if callable(amount) else amount

    def request(wildcards: Any, rulename: str) -> Request:
        return cluster.request(rulename, value_of(gpus, wildcards)) if cluster else Request()

    def planned(wildcards: Any, rulename: str) -> Limit:
        least = value_of(memory, wildcards)
        if cfg is None:
            return Limit(Costs().least_minutes, least)
        held = value_of(gpus, wildcards)
        return limit(cfg, plain_rule(rulename), dict(wildcards.items()), held, least)

    def mem_mb(wildcards: Any, attempt: int, rulename: str) -> int:
        first = request(wildcards, rulename).mem_mb or planned(wildcards, rulename).memory
        return first * attempt

    def runtime(wildcards: Any, attempt: int, rulename: str) -> int:
        given = request(wildcards, rulename).runtime or 0
        first = given or planned(wildcards, rulename).minutes
        most = longest(cluster, value_of(gpus, wildcards))
        return min(first * attempt, max(given, most))

    resources: dict[str, Any] = {"mem_mb": mem_mb, "runtime": runtime}
    if gpus:
        resources["gpu"] = gpus
    if cluster is None:
        return resources

    def extra(wildcards: Any, rulename: str) -> str | None:
        asked = request(wildcards, rulename)
        own = (f"--reservation={asked.reservation}",) if asked.reservation else ()
        return shlex.join((*own, *asked.extra)) or None

    def named(key: str) -> Callable[[Any, str], str | None]:
        return lambda wildcards, rulename: getattr(request(wildcards, rulename), key)

    # What the file says of no rule may be said by `--default-resources`.
    said = [cluster.request(rule, count) for rule in ("", *cluster.rules) for count in (0, 1)]
    resources |= {
        resource: named(key)
        for resource, key in NAMES.items()
        if any(getattr(s, key) for s in said)
    }
    if any(one.extra or one.reservation for one in said):
        resources["slurm_extra"] = extra
    if gpus:

        def of_gpus(key: str) -> Callable[[Any, str], Any]:
            """A type of GPU without a GPU is a request that Slurm refuses."""

            def value(wildcards: Any, rulename: str) -> Any:
                count = value_of(gpus, wildcards)
                return request(wildcards, rulename).of_gpus(count).get(key) if count else None

            return value

        resources |= {k: of_gpus(k) for k in ("gpu_model", "gres", "cpus_per_gpu", "cpus_per_task")}
    return resources
