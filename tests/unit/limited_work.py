"""Work on bytes for `test_limited`: good, endless, greedy and broken."""

import os
import socket
from pathlib import Path

_HELD: list[bytes] = []


def work(data: bytes, number: int = 0) -> bytes:
    match data:
        case b"pid":
            return b"%d" % os.getpid()
        case b"loop":
            while True:
                pass
        case b"greedy":
            _HELD.append(bytes(number))
        case b"crash":
            os.abort()
        case b"killed":
            os.kill(os.getpid(), 9)
        case b"none":
            raise ValueError("no image")
        case b"print":
            print("noise")
        case b"file":
            return Path("/etc/passwd").read_bytes()
        case b"connect":
            socket.socket()
        case b"two files":
            with Path("/dev/null").open(), Path("/dev/null").open():
                pass
    return data * number
