"""When the jobs of a plan end: its longest chain, and its time on so many GPUs."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from clipshift.study.config.study import Config
from clipshift.study.planning.planned import Job
from clipshift.study.planning.work import Work


@dataclass(frozen=True)
class Schedule:
    """Of a plan whose jobs start as soon as their inputs, and GPUs, are there.

    Attributes:
        chain: the jobs that no number of GPUs lets run side by side; `seconds` of all of them.
        wall: seconds on the GPUs and jobs at once of `costs`.
        kept: bytes that are written and stay; scratch: at most at once, that jobs write beside.
    """

    chain: list[Job]
    seconds: float
    wall: float
    kept: float
    scratch: float


def schedule(cfg: Config, jobs: Sequence[Job]) -> Schedule:
    """Run the jobs in thought: those with the longest way to the end first."""
    made = {file: i for i, job in enumerate(jobs) for file in job.outputs}
    before = [sorted({made[file] for file in job.inputs if file in made}) for job in jobs]
    after: list[list[int]] = [[] for _ in jobs]
    for i, needed in enumerate(before):
        for j in needed:
            after[j].append(i)
    works = [job.work(cfg) for job in jobs]
    way, follows = _ways(before, after, [work.seconds(cfg) for work in works])
    at = max(range(len(jobs)), key=lambda i: way[i], default=-1)
    length = way[at] if jobs else 0.0
    chain = []
    while at >= 0:
        chain.append(jobs[at])
        at = follows[at]
    wall, scratch = _run(cfg, works, before, after, way)
    kept = sum(work.written - work.scratch for work in works)
    return Schedule(chain, length, wall, kept, scratch)


def _ways(
    before: Sequence[Sequence[int]], after: Sequence[Sequence[int]], seconds: Sequence[float]
) -> tuple[list[float], list[int]]:
    """Of each job the time from its start to the end of all, and who follows (-1: nobody)."""
    way, follows = list(seconds), [-1] * len(seconds)
    open_ends = [len(some) for some in after]
    ready = [i for i, n in enumerate(open_ends) if not n]
    while ready:
        i = ready.pop()
        if after[i]:
            follows[i] = max(after[i], key=lambda j: way[j])
            way[i] += way[follows[i]]
        for j in before[i]:
            open_ends[j] -= 1
            if not open_ends[j]:
                ready.append(j)
    return way, follows


def _run(
    cfg: Config, works: Sequence[Work], before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]], way: Sequence[float],
) -> tuple[float, float]:  # fmt: skip
    """Seconds until all have ended, and the most bytes of scratch at once."""
    free = [cfg.costs.jobs, cfg.costs.gpus]  # of jobs without GPUs, and GPUs
    waiting = [len(needed) for needed in before]
    ready: list[list[tuple[float, int]]] = [[], []]
    running: list[tuple[float, int]] = []
    now, used, most = 0.0, 0.0, 0.0

    def size(i: int) -> int:
        return min(works[i].gpus, cfg.costs.gpus) or 1

    def enter(i: int) -> None:
        heapq.heappush(ready[works[i].gpus > 0], (-way[i], i))

    for i, n in enumerate(waiting):
        if not n:
            enter(i)
    while running or any(ready):
        for kind in (0, 1):
            while ready[kind] and size(ready[kind][0][1]) <= free[kind]:
                i = heapq.heappop(ready[kind])[1]
                free[kind] -= size(i)
                used += works[i].scratch
                heapq.heappush(running, (now + works[i].seconds(cfg), i))
        most = max(most, used)
        now, i = heapq.heappop(running)
        free[works[i].gpus > 0] += size(i)
        used -= works[i].scratch
        for j in after[i]:
            waiting[j] -= 1
            if not waiting[j]:
                enter(j)
    return now, most
