"""Snakemake as a program, with the code and the Python of this checkout."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clipshift.core.step import PACKAGE


def ask(
    words: Sequence[str], origin: Path | None = None, more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Snakemake's answer to a question that starts no job; `more` is added to its environment."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--nocolor", *words],
        cwd=origin,
        env=environment() | dict(more or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    """That of jobs of this checkout and of this Python."""
    first = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(PACKAGE.parent)}
    joined = {n: os.pathsep.join(filter(None, [p, os.environ.get(n)])) for n, p in first.items()}
    return os.environ | joined
