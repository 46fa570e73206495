"""Kill a study and its jobs at seeded random moments, and look at what lies there.

`python -m tests.workflow.kills --kills 50 --seed 1 --folder DIR` runs the small study in DIR/whole
undisturbed and in DIR/0, DIR/1, ... until so many kills are spent; each disturbed study must end
with the bytes of the undisturbed one. DIR/whole is kept for a second call.

What is killed changes in turn: the whole process group, Snakemake alone, one job alone. None of
them may leave a process behind.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path

from tests.processes import descendants
from tests.workflow.runner import command, contract, environment, snakemake

# Seconds from the start of snakemake (it parses for about two) to the kill.
MOMENTS = (2.0, 14.0)
# Seconds that a process may live on after the one that started it.
GRACE = 20.0
KINDS = ("group", "snakemake", "job")


def disturb(
    folder: Path, whole: dict[str, str], kills: int, seed: int, targets: Sequence[str] = (),
    kinds: Sequence[str] = KINDS, moments: tuple[float, float] = MOMENTS,
) -> int:  # fmt: skip
    """Run `targets` in `folder` with at most `kills` kills; returns how many there were.

    Args:
        whole: digests of the undisturbed study.
        kinds: what is killed, in turn.
        moments: seconds from the start of snakemake, first and last, to a kill.

    Raises:
        AssertionError: a file is not whole after a kill, or differs in the end, or a process lives
            on.
    """
    chance, spent, turn = random.Random(seed), 0, cycle(kinds)
    folder.mkdir(parents=True, exist_ok=True)
    while spent < kills:
        process = subprocess.Popen(
            command(folder, *targets), env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            code = process.wait(chance.uniform(*moments))
            assert code == 0, f"a run after {spent} kills failed in {folder}"
            break
        except subprocess.TimeoutExpired:
            kill(process, next(turn), chance)
        spent += 1
        check_whole(folder, whole)
        snakemake(folder, "--unlock")
    snakemake(folder, *targets)
    check_whole(folder, whole)
    if not targets:
        assert contract(folder).keys() == whole.keys()
    check_no_parts(folder)
    return spent


def kill(process: subprocess.Popen[bytes], kind: str, chance: random.Random) -> None:
    """Kill a run of Snakemake, or a part of it, and wait for the end of all its processes.

    Raises:
        AssertionError: one lives on.
    """
    below = descendants(process.pid)
    if kind == "group":
        os.killpg(process.pid, signal.SIGKILL)
    elif kind == "snakemake":
        process.kill()
    else:  # Snakemake itself ends, or tries the job again
        jobs = sorted(pid for pid in below if b"clipshift.core.step" in command_line(pid))
        if jobs:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(jobs), signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + GRACE
    while alive := [pid for pid in below if command_line(pid)]:
        said = {pid: command_line(pid)[:200] for pid in alive}
        assert time.monotonic() < deadline, f"killed was {kind}; these live on: {said}"
        time.sleep(0.1)


def command_line(pid: int) -> bytes:
    """The words of a process; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def check_no_parts(folder: Path) -> None:
    """Nothing is left half written."""
    parts = [f for f in (folder / "results").rglob("*") if f.name.endswith((".part", ".tmp"))]
    assert not parts, f"left half-written: {parts}"


def check_whole(folder: Path, whole: dict[str, str]) -> None:
    """Every file that is there has the bytes of the undisturbed study's."""
    other = [name for name, digest in contract(folder).items() if whole.get(name) != digest]
    assert not other, f"half-written or different in {folder}: {other}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    snakemake(args.folder / "whole")
    whole = contract(args.folder / "whole")
    spent, studies, start = 0, 0, time.monotonic()
    while spent < args.kills:
        here = args.folder / f"{args.seed}.{studies}"
        spent += disturb(here, whole, args.kills - spent, args.seed * 1000 + studies)
        studies += 1
        print(f"{spent} kills, {studies} studies equal the undisturbed one", flush=True)
    print(f"{len(whole)} files each; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
