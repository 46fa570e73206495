"""Two starts of one training: the later one waits; nothing outlives what started it."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clipshift.core import locks
from clipshift.core.locks import exclusive, shared, wait_for
from clipshift.training.launch import alone

HOLD = """
import sys, time
from pathlib import Path
from clipshift.core.locks import exclusive
with exclusive(Path(sys.argv[1])) as held:
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    held.left = {"result": 7}
"""


def holder(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_the_later_one_waits_and_learns_what_was_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.lock"
    first = holder(path, 1.0)
    with exclusive(path) as held:
        assert first.wait() == 0
        assert held.earlier == {"result": 7}
    assert f"is held by process {first.pid} on " in caplog.text
    assert not path.exists()
    with exclusive(path) as held:  # nobody was waited for
        assert held.earlier == {}


def test_a_killed_holder_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = holder(path, 60)
    first.kill()
    first.wait()
    with exclusive(path) as held:
        assert held.earlier == {}


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with exclusive(tmp_path / "a.lock"), shared(tmp_path / "b.lock"):
        pass
    assert caplog.text.count("its file system has no locks") == 2


def test_processes_of_a_training_are_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "processes.lock"
    wait_for(path)  # there is none
    words = [sys.executable, "-c", HOLD.replace("exclusive", "shared").replace(" as held", "")
             .replace("    held.left", "    left"), str(path), "1.0"]  # fmt: skip
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "held\n"
    with shared(path):  # together
        pass
    wait_for(path)
    assert child.poll() is not None or not _locked(path)
    child.wait()
    assert "waiting for it to end" in caplog.text


def _locked(path: Path) -> bool:
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_training_that_was_finished_meanwhile_is_not_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As two starts after `--unlock`: the first one ends while the second waits."""
    caplog.set_level(logging.INFO)
    model = tmp_path / "out/model.pt"
    model.parent.mkdir()
    work = tmp_path / "work"
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with alone(work, model, {"seed": 0}) as finished:
            os.write(writer, b"x")
            time.sleep(1)
            for name in ("model.pt", "record.json", "loss.csv"):
                model.with_name(name).write_text(name)
        os._exit(int(finished))
    os.read(reader, 1)
    with alone(work, model, {"seed": 0}) as finished:
        assert finished
    assert os.waitpid(child, 0)[1] == 0
    with alone(work, model, {"seed": 0}) as finished:  # an old file proves nothing
        assert not finished


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux")
@pytest.mark.parametrize("line", ["true; {}; true", "{}"])
def test_a_step_ends_with_what_started_its_shell(line: str) -> None:
    """A workflow that is killed leaves the shells of its jobs; their programs end all the same."""
    program = (
        "import time; from clipshift.core.processes import die_with_starter as d;"
        "d('job-of-a-test'); print(__import__('os').getpid(), flush=True); time.sleep(60)"
    )
    words = f'{sys.executable} -c "{program}" job-of-a-test'
    starter = (
        "import subprocess, sys;"
        "subprocess.run(['bash', '-c', sys.argv[1]])"
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", starter, line.format(words).replace("job-of", "job" + "-of")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
