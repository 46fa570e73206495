"""Kill a study and its jobs at seeded random moments, and look at what lies there.

`python -m tests.workflow.kills --kills 50 --seed 1 --folder DIR` runs the small study in DIR/whole
undisturbed and in DIR/1.0, DIR/1.1, ... until so many kills are spent; each disturbed study must
end with the bytes of the undisturbed one. DIR/whole is kept for a second call. With `--slurm` the
jobs go to a stand-in for Slurm (`tests.workflow.standin`).

What is killed changes in turn (`KINDS`). None may leave a process behind, but that jobs of Slurm go
on: then the next run must refuse to start until they have ended or are cancelled.
"""

import argparse
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil
import yaml

from tests.slurm.slurm import NAMES
from tests.slurm.slurm import command as slurm_command
from tests.workflow import standin
from tests.workflow.runner import ROOT, command, contract, environment, snakemake

# From the start of snakemake to the first kill, and between two, in times of reading the workflow:
# a busy machine takes longer for both.
MOMENTS = (1.0, 6.0)
# Seconds that a process may live on after the one that started it.
GRACE = 20.0
# Seconds that a whole run may take, on a busy machine, too.
BUSY = 3600.0
# The whole process group, Snakemake alone, a job with all that it started, one process of a job.
KINDS = ("group", "snakemake", "job", "program")
STEP = "clipshift.core.step"


class Local:
    """Runs whose jobs are processes below Snakemake."""

    def __init__(self) -> None:
        self.env = environment()

    def command(self, folder: Path, *targets: str) -> list[str]:
        return command(folder, *targets)

    def jobs(self, run: psutil.Process) -> list[psutil.Process]:
        """The first process of each job."""
        return [p for p in tree(run) if STEP in words(p) and STEP not in words(p.parent())]

    def left(self) -> list[psutil.Process]:
        """What goes on after Snakemake was killed."""
        return []

    def clear(self, folder: Path, chance: random.Random) -> None:
        pass


class Standin(Local):
    """Runs whose jobs a stand-in for Slurm starts, in sessions of their own."""

    def __init__(self, folder: Path) -> None:
        own = standin.place(folder)
        (folder / "run").touch()
        (folder / "cluster.yaml").write_text(yaml.safe_dump(NAMES | {"status": "squeue"}))
        self.env = environment() | own | {
            "CLIPSHIFT_CLUSTER": str(folder / "cluster.yaml"),
            "PATH": f"{folder}/bin{os.pathsep}{environment()['PATH']}",
            "PYTHONPATH": f"{ROOT}/workflow{os.pathsep}{ROOT}",
        }  # fmt: skip
        self.folder = folder

    def command(self, folder: Path, *targets: str) -> list[str]:
        return slurm_command(folder, *targets)

    def jobs(self, run: psutil.Process) -> list[psutil.Process]:
        # Not the first process, which tells how the job ended, as a node's daemon does.
        return [child for first in self.first() for child in first.children()]

    def first(self) -> list[psutil.Process]:
        found = []
        for pid in standin.running(self.folder).values():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def left(self) -> list[psutil.Process]:
        return [p for first in self.first() for p in (first, *tree(first))]

    def clear(self, folder: Path, chance: random.Random) -> None:
        """Jobs of a killed run: the next one refuses; wait for them, or cancel them."""
        if not standin.running(self.folder):
            return
        done = subprocess.run(
            self.command(folder), env=self.env, cwd=ROOT, capture_output=True, text=True,
            timeout=BUSY, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if standin.running(self.folder):  # nor had they ended before it asked
            assert done.returncode and "scancel" in said, f"ran beside jobs of its own: {said}"
        if chance.random() < 0.5:
            jobs = standin.running(self.folder)
            subprocess.run([self.folder / "bin/scancel", *map(str, jobs)], env=self.env, check=True)
        deadline = time.monotonic() + BUSY
        while standin.running(self.folder):
            assert time.monotonic() < deadline, "jobs of a killed run do not end"
            time.sleep(0.2)


def disturb(
    folder: Path, whole: dict[str, str], kills: int, seed: int, targets: Sequence[str] = (),
    place: Local | None = None,
) -> Counter[str]:  # fmt: skip
    """Run `targets` in `folder` with at most `kills` kills; returns how many there were of a kind.

    Args:
        whole: digests of the undisturbed study.
        place: where jobs run; here.

    Raises:
        AssertionError: a file is not whole after a kill, or differs in the end, or a process lives
            on.
    """
    place = place or Local()
    chance, spent, turn = random.Random(seed), Counter[str](), cycle(KINDS)
    folder.mkdir(parents=True, exist_ok=True)
    pace = unlocked(folder)
    code = -1
    while code != 0:
        killed, run = [], start(place, folder, *targets)
        while spent.total() < kills and not ended(run, pace * chance.uniform(*MOMENTS)):
            kind, found = kill(place, run, next(turn), chance)
            spent[kind] += 1
            killed += found
        code = run.wait(BUSY)
        check_gone(killed)
        assert killed or code == 0, f"a run after {dict(spent)} failed in {folder}"
        pace = unlocked(folder)
        place.clear(folder, chance)
        check_gone(place.left())
        check_whole(folder, whole)
    if not targets:
        assert contract(folder).keys() == whole.keys()
    check_no_parts(folder)
    return spent


def unlocked(folder: Path) -> float:
    """Unlock a folder; returns the seconds that this took."""
    begin = time.monotonic()
    snakemake(folder, "--unlock")
    return time.monotonic() - begin


def start(place: Local, folder: Path, *targets: str) -> psutil.Popen:
    return psutil.Popen(
        place.command(folder, *targets), env=place.env, start_new_session=True, cwd=ROOT,
        stdout=folder.with_suffix(".log").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip


def ended(run: psutil.Popen, seconds: float) -> bool:
    """Whether a run ends within some seconds."""
    try:
        run.wait(seconds)
    except psutil.TimeoutExpired:
        return False
    return True


def kill(
    place: Local, run: psutil.Popen, kind: str, chance: random.Random
) -> tuple[str, list[psutil.Process]]:
    """Kill a run of Snakemake, or a part of it; where no job runs, Snakemake alone.

    Returns:
        What was killed, and the processes that must end now.
    """
    jobs = place.jobs(run) if kind in ("job", "program") else []
    if jobs:
        job = chance.choice(jobs)
        below = [job, *tree(job)]
        for process in below if kind == "job" else [chance.choice(below)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return kind, below
    below = [run, *tree(run)]
    if kind == "group":
        os.killpg(run.pid, signal.SIGKILL)
    else:
        kind = "snakemake"
        run.kill()
    run.wait()
    return kind, below


def tree(process: psutil.Process) -> list[psutil.Process]:
    """The processes below one."""
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []


def words(process: psutil.Process | None) -> list[str]:
    """The words of a process; none where it has ended."""
    with suppress(psutil.Error):
        return list(process.cmdline()) if process else []
    return []


def check_gone(processes: Iterable[psutil.Process]) -> None:
    """They end soon."""
    _, alive = psutil.wait_procs(list(processes), GRACE)
    said = {p.pid: " ".join(words(p))[:200] for p in alive if words(p)}
    assert not said, f"these live on: {said}"


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
    parser.add_argument("--slurm", action="store_true", help="jobs go to a stand-in for Slurm")
    parser.add_argument("--target", action="append", default=[], help="a part of the study")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    snakemake(args.folder / "whole", *args.target, timeout=BUSY)
    whole = contract(args.folder / "whole")
    spent, studies, begin = Counter[str](), 0, time.monotonic()
    while spent.total() < args.kills:
        here = args.folder / f"{args.seed}.{studies}"
        place = Standin(here.with_suffix(".slurm")) if args.slurm else Local()
        left = args.kills - spent.total()
        spent += disturb(here, whole, left, args.seed * 1000 + studies, args.target, place)
        studies += 1
        print(f"{dict(spent)}, {studies} studies equal the undisturbed one", flush=True)
    print(f"{len(whole)} files each; {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
