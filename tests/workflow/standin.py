#!/usr/bin/env python3
"""Slurm's commands where there is no Slurm: one file under the names of sbatch, squeue, srun ...

They keep what they were asked in $STANDIN: `submitted.jsonl` (one line for each sbatch, with its
words, its script and the time), `asked.jsonl` (status queries), `cancelled.jsonl`, `ID.state`. With
$STANDIN/run the job's script runs (with sh, at once, in the background; `ID.pid` is its first
process and its log) until it ends or is cancelled; with $STANDIN/wait it pends; with
$STANDIN/refuse sbatch prints that and fails; else a job has ended well when it is submitted, and
its outputs must be there already.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "srun", "scontrol", "sinfo", "sacct", "sacctmgr")


def place(folder: Path) -> dict[str, str]:
    """Put the commands into folder/bin; returns the environment that finds them."""
    (folder / "bin").mkdir(parents=True)
    for name in COMMANDS:
        (folder / "bin" / name).symlink_to(Path(__file__).resolve())
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    return {"STANDIN": str(folder), "PATH": path}


def keep(here: Path, name: str, entry: dict[str, object]) -> int:
    """Append one line; returns how many there are."""
    with (here / name).open("a+") as stream:
        stream.write(json.dumps(entry) + "\n")
        stream.flush()
        stream.seek(0)
        return sum(1 for _ in stream)


def sbatch(here: Path, words: list[str]) -> None:
    script = sys.stdin.read()
    asked = {"words": words, "script": script, "time": time.time()}
    job = keep(here, "submitted.jsonl", asked)
    state = here / f"{job}.state"
    if (here / "refuse").exists():
        sys.exit((here / "refuse").read_text())
    if (here / "wait").exists():
        state.write_text("PENDING")
    elif (here / "run").exists():
        log = words[words.index("--output") + 1].replace("%j", str(job))
        state.write_text("RUNNING")
        finish = (
            'echo "$$ $2" >"$4"; sh -c "$1" >"$2" 2>&1 && s=COMPLETED || s=FAILED; echo -n $s >"$3"'
        )
        env = os.environ | {"SLURM_JOB_ID": str(job)}
        subprocess.Popen(
            ["bash", "-c", finish, "job", script, log, str(state), str(here / f"{job}.pid")],
            env=env, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    else:
        state.write_text("COMPLETED")
    print(job)


def running(here: Path) -> dict[int, int]:
    """Job -> its first process."""
    states = {int(file.stem): file.read_text() for file in here.glob("*.state")}
    files = {job: here / f"{job}.pid" for job, state in states.items() if state == "RUNNING"}
    texts = {job: file.read_text() for job, file in files.items() if file.exists()}
    return {job: int(text.split()[0]) for job, text in texts.items() if text}


def scancel(here: Path, words: list[str]) -> None:
    keep(here, "cancelled.jsonl", {"words": words})
    for job, pid in running(here).items():
        if str(job) in words:
            (here / f"{job}.state").write_text("CANCELLED")
            os.killpg(pid, signal.SIGKILL)


def squeue(here: Path, words: list[str]) -> None:
    states = sorted(here.glob("*.state"), key=lambda f: int(f.stem))
    if "--me" in words:  # who works in which folder
        if (here / "leftover").exists():
            print((here / "leftover").read_text(), end="")
        for job in running(here):
            print(job, (here / f"{job}.pid").read_text().split(maxsplit=1)[1])
        return
    if (here / "wait").exists() and "-h" in words:  # why jobs wait
        print(
            *(f"{f.stem} {f.read_text()} {(here / 'wait').read_text()}" for f in states), sep="\n"
        )
        return
    keep(here, "asked.jsonl", {"time": time.time()})
    for state in states:
        print(f"{state.stem}|{state.read_text()}")


def main() -> None:
    name, words, here = Path(sys.argv[0]).name, sys.argv[1:], Path(os.environ["STANDIN"])
    if name == "sbatch":
        sbatch(here, words)
    elif name == "squeue":
        squeue(here, words)
    elif name == "srun":
        while words and words[0].startswith("-"):
            words = words[1:]
        os.execvp(words[0], words)
    elif name == "scancel":
        scancel(here, words)
    elif name == "scontrol":
        print("MinJobAge               = 7200 sec")
    elif name == "sacctmgr":
        print("vision")
    elif name == "sacct":
        sys.exit("Slurm accounting storage is disabled")


if __name__ == "__main__":
    main()
