"""Run a function in a forked child with limits, and say how it ended."""

import faulthandler
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from clipshift.core.errors import run

GIB = 1 << 30
SAID = 1 << 20  # bytes of output that are kept


@dataclass(frozen=True)
class Limits:
    """Of one child. `seconds` are of waiting, or of computing where other work slows it down."""

    seconds: float = 10
    resident: int = 2 * GIB  # above what the child begins with; more is a verdict
    address: int = 3 * GIB  # above what the parent maps; more is a MemoryError
    file: int = GIB


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        how: value (it returned), refused (exit 1 with a message), usage (exit 2), traceback, hang,
            memory, or signal.
        said: the message, the traceback, or the name of the signal.
    """

    how: str
    value: Any = None
    said: str = ""
    seconds: float = 0.0
    resident: int = 0


def isolated(
    function: Callable[[], Any],
    limits: Limits = Limits(),
    meanwhile: Callable[[int], None] = lambda child: None,
) -> Ended:
    """Run `function` in a child; what it returns must be plain data.

    Args:
        meanwhile: is called with the child's id while it runs.
    """
    with tempfile.TemporaryFile() as answer:
        start = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        # What it says goes through a pipe, which no limit of files concerns.
        said, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            _child(function, limits, answer.fileno(), theirs)
        os.close(theirs)
        meanwhile(child)
        status, used, late, text = _wait(child, limits.seconds, said)
        os.close(said)
        answer.seek(0)
        before, found = int.from_bytes(answer.read(8), "big"), answer.read()
        resident = max(0, used.ru_maxrss * 1024 - before) if before else 0
    seconds = time.monotonic() - start
    how, value, more = pickle.loads(found) if found else ("", None, "")
    if late:
        how = "hang"
    elif os.WIFSIGNALED(status):
        how, more = "signal", signal.Signals(os.WTERMSIG(status)).name
    elif not found:
        how, more = "traceback", f"the process ended by itself: {text[-2000:]}"
    elif resident > limits.resident or (how != "value" and _is_memory(more)):
        how = "memory"
    return Ended(how, value, more or text, seconds, resident)


def _child(function: Callable[[], Any], limits: Limits, answer: int, said: int) -> None:
    """Never returns."""
    try:
        os.setsid()
        faulthandler.disable()  # of a test's process: a signal is a verdict here, no news
        # A child begins with less than its parent holds: files that are mapped are not its own yet.
        os.write(answer, _resident().to_bytes(8, "big"))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        # Of their own: those of the parent may have a place in a file.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + limits.address,) * 2)
        largest = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file, largest))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        found = pickle.dumps(_outcome(function))
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        with os.fdopen(answer, "wb") as stream:
            stream.write(found)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _outcome(function: Callable[[], Any]) -> tuple[str, Any, str]:
    box: list[Any] = []
    try:
        run(lambda: box.append(function()))  # the product's own boundary: what a user would see
    except SystemExit as end:
        if isinstance(end.code, str):
            return "refused", None, end.code
        if end.code in (None, 0):
            return "value", None, ""
        return ("usage" if end.code == 2 else "refused"), None, ""
    except BaseException:
        return "traceback", None, traceback.format_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return "value", box[0], ""


def _wait(child: int, seconds: float, said: int) -> tuple[int, resource.struct_rusage, bool, str]:
    """Its status and usage, whether it was too late, and what it said; its descendants end, too."""
    handle, start, late = os.pidfd_open(child), time.monotonic(), False
    text = bytearray()
    os.set_blocking(said, False)
    while handle not in (ready := select.select([handle, said], [], [], 0.5)[0]):
        # Nobody may hold the pipe any more while the process still runs: no busy waiting then.
        if said in ready and not _drain(said, text):
            time.sleep(0.01)
        waited, computed = time.monotonic() - start, _computed(child)
        # A busy machine is no hang: what computes has as many seconds of a processor.
        if computed > seconds or waited > 4 * seconds or (waited > seconds > 5 * computed):
            late = True
            os.kill(child, signal.SIGKILL)
            break
    os.close(handle)
    _, status, used = os.wait4(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    while _drain(said, text):
        pass
    return status, used, late, text.decode(errors="replace")


def _drain(said: int, text: bytearray) -> bool:
    """Read what is there; whether there was anything."""
    try:
        data = os.read(said, 1 << 16)
    except BlockingIOError:
        return False
    text += data[: max(0, SAID - len(text))]
    return bool(data)


def _computed(child: int) -> float:
    """Seconds of a processor that a process and those below it used."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        above = psutil.Process(child)
        for process in (above, *above.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])  # its own, and of its finished children
    return total


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _is_memory(text: str) -> bool:
    signs = ("there is not enough memory", "MemoryError", "bad_alloc", "allocate memory")
    return any(sign in last for last in text.strip().splitlines()[-1:] for sign in signs)
