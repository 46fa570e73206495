"""What jobs ask a cluster for, by the cost model: planned time and memory, each with a margin.

The rules' `needs` and the preview ask the same functions, so no job is planned longer than its
limit. A training that takes longer than its partition allows is started again where it was, as
often as it takes.
"""

from collections.abc import Mapping
from math import ceil
from typing import NamedTuple

from clipshift.study.config.study import Config
from clipshift.study.planning.costs import job_cost


class Limit(NamedTuple):
    """What one job asks for: minutes, for the whole of it, and MB."""

    minutes: int
    memory: int


def limit(
    cfg: Config, rule: str, wildcards: Mapping[str, str], gpus: int, least: int
) -> Limit:  # fmt: skip
    """The limit of a job.

    Args:
        least: MB that the rule asks for, whatever the study.
    """
    work = job_cost(cfg, rule, wildcards, gpus)
    memory = max(least, ceil(work.memory * cfg.costs.memory_margin / 1e6))
    time = max(cfg.costs.least_minutes, minutes(cfg, work.seconds(cfg)))
    return Limit(time, memory)


def minutes(cfg: Config, seconds: float) -> int:
    """What is planned to take so long, with `costs.margin`."""
    return ceil(seconds * cfg.costs.margin / 60)
