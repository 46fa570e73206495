"""Kill a study and its jobs at seeded random moments, and look at what lies there.

`python -m tests.workflow.kills --kills 50 --seed 1 --folder DIR` runs the small study in DIR/whole
undisturbed and in DIR/0, DIR/1, ... until so many kills are spent; each disturbed study must end
with the bytes of the undisturbed one. DIR/whole is kept for a second call.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.workflow.runner import command, contract, environment, snakemake

# Seconds from the start of snakemake (it parses for about two) to the kill.
MOMENTS = (2.0, 14.0)


def disturb(folder: Path, whole: dict[str, str], kills: int, seed: int,
            targets: Sequence[str] = ()) -> int:  # fmt: skip
    """Run `targets` in `folder` with at most `kills` kills; returns how many there were.

    Args:
        whole: digests of the undisturbed study.

    Raises:
        AssertionError: a file is not whole after a kill, or differs in the end.
    """
    chance, spent = random.Random(seed), 0
    folder.mkdir(parents=True, exist_ok=True)
    while spent < kills:
        process = subprocess.Popen(
            command(folder, *targets), env=environment(), start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            code = process.wait(chance.uniform(*MOMENTS))
            assert code == 0, f"a run after {spent} kills failed in {folder}"
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        spent += 1
        check_whole(folder, whole)
        snakemake(folder, "--unlock")
    snakemake(folder, *targets)
    check_whole(folder, whole)
    if not targets:
        assert contract(folder).keys() == whole.keys()
    check_no_parts(folder)
    return spent


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
