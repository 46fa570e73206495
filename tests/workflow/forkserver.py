"""Steps without the seconds of a new Python each: a server with their packages imported forks.

    with serving(folder) as path: ... PATH=path:$PATH

`path` holds a `python` that sends its words, environment, folder and streams to the server where
they are a step's, and is the real Python otherwise. A step runs as in a process of its own.
"""

import array
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STEP = ["-m", "clipshift.core.step"]
HEAVY = ("torch", "open_clip", "duckdb", "pyarrow.parquet", "sklearn.linear_model", "matplotlib",
         "scipy.stats", "clipshift.study.config.load", "clipshift.evaluation.logits",
         "clipshift.figures.kind", "clipshift.classifiers.tuning")  # fmt: skip
CLIENT = """#!{python} -ISE
import array, json, os, socket, sys
if sys.argv[1:3] != {step}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    fds = array.array("i", [0, 1, 2]).tobytes()
    server.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    job = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    server.sendall(job)
    server.shutdown(socket.SHUT_WR)
    code = server.recv(1)
sys.exit(code[0] if code else 137)
"""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Start the server; the folder of its `python`, for PATH."""
    folder.mkdir()
    path = str(folder / "socket")
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable, step=STEP, path=path))
    client.chmod(0o755)
    server = subprocess.Popen([sys.executable, "-m", __name__, path])
    try:
        while not Path(path).exists():
            assert server.poll() is None, "the server of the steps ended"
            time.sleep(0.1)
        yield folder
    finally:
        server.terminate()
        server.wait()


def serve(path: str) -> None:
    for name in HEAVY:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                work(connection)
            connection.close()


def work(connection: socket.socket) -> None:
    """One step, in a forked process that ends here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 1
    try:
        streams = array.array("i")
        _, [(_, _, sent)], _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * streams.itemsize))
        streams.frombytes(sent[: 3 * streams.itemsize])
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
        words, folder, environment = json.loads(b"".join(parts))
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = words[1:]
        from clipshift.core import step

        try:
            step.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):  # as the interpreter shows it
                print(end.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        with contextlib.suppress(OSError):
            connection.sendall(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
