"""Worker threads over blocks: results in order, a few blocks under way at a time."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from clipshift.similarity.engine.block import Scratch

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    work: Callable[[T, Scratch], R], items: Iterable[T], where: torch.device,
    threads: int | None = None,
) -> Iterator[R]:  # fmt: skip
    """`work(item, scratch)` of every item, in the order of the items.

    On a CPU each thread takes items of its own, with torch's own threads left out: the small
    operations between two products would leave them waiting. A GPU gets one thread.
    """
    local = threading.local()
    count = 1 if where.type != "cpu" else threads or torch.get_num_threads()

    def call(item: T) -> R:
        if not hasattr(local, "scratch"):
            local.scratch = Scratch()
            if count > 1:
                torch.set_num_threads(1)
        return work(item, local.scratch)

    before = torch.get_num_threads()
    pending: deque[Future[R]] = deque()
    try:
        with ThreadPoolExecutor(count) as pool:
            for item in items:
                pending.append(pool.submit(call, item))
                if len(pending) > 4 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    finally:
        torch.set_num_threads(before)  # part of it is global
