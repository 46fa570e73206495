"""What the start of a cluster job costs at LAION's scale: its parse, for one job of every rule.

A cluster job is `snakemake` once more, twice: it reads the Snakefile and the configuration, and
finds its one job. Run as the Slurm plugin starts it, but as a dry run, in a folder without data:

    python cluster_jobs.py [--out FILE]

Prints seconds of the clock and of one core (the best of three), and peak memory, for each rule; the
plan itself first.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from clipshift.files import write_json

ROOT = Path(__file__).resolve().parents[1]
TARGET = "results/eval/pruned_100M.json"
COMMON = ["--snakefile", str(ROOT / "Snakefile"), "--nocolor", "--dry-run"]
COMMON += ["--configfile", str(ROOT / "config/laion400m.yaml")]
JOB = ["--cores", "all", "--attempt", "1", "--force-use-threads", "--force", "--nolock"]
JOB += ["--target-files-omit-workdir-adjustment", "--max-inventory-time", "0", "--retries", "0"]
JOB += ["--notemp", "--no-hooks", "--ignore-incomplete", "--mode", "remote"]


def timed(folder: Path, words: list[str]) -> tuple[float, float, float, str]:
    """Seconds of the clock and of the processor, peak MiB, and output of one snakemake."""
    log = folder / "output.txt"
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        with log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os.execv(sys.executable, [sys.executable, "-m", "snakemake", *COMMON, *words])
    _, status, usage = os.wait4(pid, 0)
    seconds, text = time.monotonic() - start, log.read_text()
    if status:
        sys.exit(text[-3000:])
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def one_of_each(plan: str) -> dict[str, str]:
    """Rule -> its first job, as `--target-jobs` names it."""
    found: dict[str, str] = {}
    for block in re.split(r"^\[.*\]$", plan, flags=re.M):
        if name := re.search(r"^(?:local)?rule (\w+):", block, flags=re.M):
            wildcards = re.search(r"^    wildcards: (.*)$", block, flags=re.M)
            values = wildcards[1].replace(", ", ",") if wildcards else ""
            found.setdefault(name[1], f"{name[1]}:{values}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clipshift-") as name:
        folder = Path(name)
        here = ["--directory", str(folder)]
        *whole, plan = timed(folder, [*here, "--", TARGET])
        rows = {"the whole plan": whole}
        for rule, job in one_of_each(plan).items():
            words = [*here, *JOB, "--target-jobs", job, "--allowed-rules", rule]
            rows[rule] = min(list(timed(folder, words)[:3]) for _ in range(3))
    for rule, (seconds, core, memory) in rows.items():
        print(f"{rule:20} {seconds:6.2f} s {core:6.2f} core s {memory:5.0f} MiB")
    if args.out:
        names = ("seconds", "core_seconds", "peak_mib")
        write_json(args.out, {r: dict(zip(names, row, strict=True)) for r, row in rows.items()})


if __name__ == "__main__":
    main()
