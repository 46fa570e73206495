"""Work on bytes that nobody vouches for, in a process of its own: memory, time and files bounded.

For libraries that may crash, loop or allocate without end on hostile input. The process stays for
the next piece of work and is started anew where a bound ended it. Standard library only.

    draw = Limited("package.module:function", seconds=5, memory=512 << 20)
    draw(data, 3)   # function(data, 3), bytes -> bytes

`function` raises ValueError for input that it cannot work on; its module is imported before the
bounds apply.
"""

import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.step import PACKAGE

_SOURCE = str(PACKAGE.parent)
_LENGTH = struct.Struct(">?Q")  # whether it went well, and the bytes that follow
# What a process ends with that used too much, or broke down on its input.
_BROKEN = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
# Without an answer for so many times the bound of computing time, something else is wrong.
_PATIENCE = 60


class Refused(Exception):
    """The work on these bytes failed; the text is the reason."""


class Beyond(Refused):
    """It took too much memory or time; the text continues a sentence that begins with them."""


class Limited:
    """A function on bytes, run in another process; each thread and each fork has one of its own.

    Args:
        work: `module:function`, from bytes and whole numbers to bytes.
        seconds: of computing (not of waiting) for one call.
        memory: bytes that the process may get beyond what it holds at its start.
        files: that it may open at a time; 0: none, and no connection either.
    """

    def __init__(self, work: str, seconds: int, memory: int, files: int = 0):
        self._work, self._seconds, self._memory, self._files = work, seconds, memory, files
        self._own = threading.local()

    def __call__(self, data: bytes, *numbers: int) -> bytes:
        """The result.

        Raises:
            Refused: none that can be worked on.
            Beyond: a bound is not enough.
            ClipshiftError: the process cannot be started, or was ended from outside.
        """
        process = self._process()
        try:
            answer = self._exchange(process, data, numbers)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if answer is not None:
            went_well, result = answer
            if went_well:
                return result
            raise Refused(result.decode()) if result else Beyond(self._too_much())
        code = process.wait()
        if code == -signal.SIGPROF:
            raise Beyond(f"takes more than {self._seconds} s of computing")
        if code in _BROKEN:
            raise Beyond(f"{self._too_much()}, or breaks its reader")
        raise ClipshiftError(
            f"the process that runs {self._work} ended ({code}); was it killed, is memory full?"
        )

    def _too_much(self) -> str:
        return f"takes more than {self._memory >> 20} MiB"

    def _process(self) -> "subprocess.Popen[bytes]":
        """That of this thread; a forked process leaves that of its parent alone."""
        own: _Own | None = getattr(self._own, "process", None)
        if own and own.pid == os.getpid() and own.process.poll() is None:
            return own.process
        command = [sys.executable, "-m", __name__, self._work]
        command += map(str, (self._seconds, self._memory, self._files))
        paths = filter(None, (_SOURCE, os.environ.get("PYTHONPATH")))
        alone = {"PYTHONPATH": os.pathsep.join(paths)}
        alone |= {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=os.environ | alone,
        )
        self._own.process = _Own(process, os.getpid())
        weakref.finalize(self._own.process, _end, process, os.getpid())
        if _read(process, _LENGTH.size, _PATIENCE) != _LENGTH.pack(True, 0):
            process.kill()
            process.wait()
            raise ClipshiftError(f"the process that runs {self._work} cannot be started; see above")
        return process

    def _exchange(
        self, process: "subprocess.Popen[bytes]", data: bytes, numbers: tuple[int, ...]
    ) -> tuple[bool, bytes] | None:
        """The answer; None: the process ended."""
        assert process.stdin
        head = json.dumps(numbers).encode()
        message = _LENGTH.pack(True, len(head)) + head + _LENGTH.pack(True, len(data)) + data
        view = memoryview(message)
        try:
            while view:
                view = view[process.stdin.write(view) :]
        except BrokenPipeError:
            return None
        patience = _PATIENCE * self._seconds
        found = _read(process, _LENGTH.size, patience)
        if len(found) < _LENGTH.size:
            return None
        went_well, length = _LENGTH.unpack(found)
        result = _read(process, length, patience)
        return (went_well, result) if len(result) == length else None


def _read(process: "subprocess.Popen[bytes]", length: int, patience: int) -> bytes:
    """As many bytes, or fewer where the process ends."""
    assert process.stdout
    found = bytearray()
    while len(found) < length:
        waiting = select.poll()
        waiting.register(process.stdout, select.POLLIN)
        if not waiting.poll(1000 * patience):
            raise ClipshiftError(f"no answer for {patience} s: {process.args!r}")
        part = process.stdout.read(min(length - len(found), 1 << 20))
        if not part:
            break
        found += part
    return bytes(found)


@dataclass
class _Own:
    """The process of a thread, and who started it; ends with the thread."""

    process: "subprocess.Popen[bytes]"
    pid: int


def _end(process: "subprocess.Popen[bytes]", pid: int) -> None:
    """Close what leads to a process, upon which it ends."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    if os.getpid() == pid:
        process.wait()
    else:
        process.returncode = 0  # not ours to wait for


def _bound(memory: int, files: int) -> None:
    """Bound this process: address space, files and connections; no file is written."""
    import resource

    def limit(kind: int, most: int) -> None:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))

    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_FSIZE, 0)
    if sys.platform.startswith("linux"):
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit(resource.RLIMIT_AS, held + memory)
    limit(resource.RLIMIT_NOFILE, 3 + 1 + files)  # 0 to 2, and a copy of 1


def main() -> None:
    """Serve: for each message one answer, until the other side closes."""
    work = sys.argv[1]
    seconds, memory, files = map(int, sys.argv[2:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side decides
    module, _, name = work.partition(":")
    function = getattr(import_module(module), name)
    source = sys.stdin.buffer
    out, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # what a library prints is no answer
    _bound(memory, files)
    os.dup2(nothing, 2)
    os.close(nothing)
    _send(out, True, b"")
    while head := source.read(_LENGTH.size):
        numbers = json.loads(source.read(_LENGTH.unpack(head)[1]))
        data = source.read(_LENGTH.unpack(source.read(_LENGTH.size))[1])
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process
        try:
            went_well, answer = True, function(data, *numbers)
        except MemoryError:
            went_well, answer = False, b""
        except BaseException as error:  # a panic of Rust is no Exception
            said = str(error) or type(error).__name__
            went_well, answer = False, said.encode("utf-8", "backslashreplace")
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(out, went_well, answer)
        del data, answer


def _send(out: int, went_well: bool, answer: bytes) -> None:
    with os.fdopen(out, "wb", closefd=False) as stream:
        stream.write(_LENGTH.pack(went_well, len(answer)) + answer)


if __name__ == "__main__":
    main()
