"""Work in a bounded process: right results, named refusals, and nothing that outlives them."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipshift.core import limited
from clipshift.core.errors import ClipshiftError
from clipshift.core.limited import Limited, Refused

WORK = "tests.unit.limited_work:work"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process imports this package's work, too."""
    root = Path(__file__).parents[2]
    monkeypatch.setattr(limited, "_SOURCE", os.pathsep.join((f"{root}/workflow", str(root))))


def test_one_process_does_piece_after_piece() -> None:
    bounded = Limited(WORK, seconds=5, memory=64 << 20)
    assert bounded(b"ab", 3) == b"ababab"
    first = bounded(b"pid")
    assert bounded(b"x" * 3_000_000, 2) == b"x" * 6_000_000
    assert bounded(b"print", 1) == b"print"
    with pytest.raises(Refused, match="no image"):
        bounded(b"none")
    assert bounded(b"", 5) == b""
    assert bounded(b"pid") == first


@pytest.mark.parametrize(
    ("data", "number", "said"),
    [
        (b"loop", 0, "more than 1 s of computing"),
        (b"greedy", 100 << 20, "more than 64 MiB"),
        (b"crash", 0, "more than 64 MiB, or breaks its reader"),
        (b"file", 0, "Too many open files"),
        (b"connect", 0, "Too many open files"),
    ],
)
def test_what_goes_beyond_a_bound_is_refused_and_the_next_piece_is_done(
    data: bytes, number: int, said: str
) -> None:
    bounded = Limited(WORK, seconds=1, memory=64 << 20)
    start = time.monotonic()
    for _ in range(2):
        with pytest.raises(Refused, match=said):
            bounded(data, number)
        assert bounded(b"a", 2) == b"aa"
    assert time.monotonic() - start < 60


def test_as_many_files_as_it_may_open() -> None:
    bounded = Limited(WORK, seconds=1, memory=64 << 20, files=1)
    assert bounded(b"file").startswith(b"root")
    with pytest.raises(Refused, match="Too many open files"):
        bounded(b"two files")


def test_a_kill_from_outside_is_no_fault_of_the_bytes() -> None:
    bounded = Limited(WORK, seconds=1, memory=64 << 20)
    with pytest.raises(ClipshiftError, match="was it killed"):
        bounded(b"killed")
    with pytest.raises(ClipshiftError, match="cannot be started"):
        Limited("tests.unit.limited_work:missing", 1, 1 << 20)(b"")


def test_threads_and_forks_have_their_own_process() -> None:
    def pids() -> tuple[bytes, set[bytes]]:
        bounded = Limited(WORK, seconds=5, memory=64 << 20)
        mine = bounded(b"pid")
        with ThreadPoolExecutor(3) as pool:
            others = set(pool.map(lambda _: bounded(b"pid"), range(20)))
            assert [pool.submit(bounded, b"ab", 2).result() for _ in range(5)] == [b"abab"] * 5
        fork = multiprocessing.get_context("fork")
        queue = fork.Queue()
        forked = fork.Process(target=lambda: queue.put(bounded(b"pid")))
        forked.start()
        others.add(queue.get(timeout=30))
        forked.join(30)
        assert forked.exitcode == 0
        assert bounded(b"pid") == mine
        return mine, others

    mine, others = pids()
    assert mine not in others
    assert len(others) >= 2
    _gone({int(pid) for pid in {mine, *others}})


def _gone(processes: set[int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interrupt_ends_what_it_computes() -> None:
    bounded = Limited(WORK, seconds=30, memory=64 << 20)
    pid = int(bounded(b"pid"))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            bounded(b"loop")
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert bounded(b"a", 2) == b"aa"
    assert int(bounded(b"pid")) != pid
    _gone({pid})
