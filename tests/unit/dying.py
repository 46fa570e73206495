"""A program that dies, or whose disk is full, at one call of a function: for `python -c`.

Its arguments: a folder, where it dies (a name of `places`), and at which call of it.
"""

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from clipshift.core.errors import run as reported
{imports}

root, where, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
module, name = {places}[where]
real, calls = getattr(module, name), 0

def dying(*args, **named):
    global calls
    calls += 1
    if calls == at:
        {end}
    return real(*args, **named)

setattr(module, name, dying)
reported(lambda: {work})
"""


def killed(imports: str, places: str, work: str) -> str:
    """The program; it is killed.

    Args:
        imports: lines.
        places: an expression, name -> (module, name of its function).
        work: an expression of `root`.
    """
    end = "os.kill(os.getpid(), signal.SIGKILL)"
    return _PROGRAM.format(imports=imports, places=places, work=work, end=end)


def full(imports: str, places: str, work: str, size: int) -> str:
    """The same; from there on no file can be larger than `size` bytes."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    end = f"import resource; {limit}"
    return _PROGRAM.format(imports=imports, places=places, work=work, end=end)
