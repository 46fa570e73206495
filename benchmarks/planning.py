"""What planning costs at LAION's scale, 41,408 tars, and what the start of one cluster job does.

A cluster job is `snakemake` once more, twice: it reads the Snakefile and the configuration, and
finds its one job. Run as the Slurm plugin starts it, but as a dry run, in a folder without data:

    python planning.py [--out FILE]

Prints seconds of the clock and of one core, and peak memory: of the dry run of a training's
evaluation, of a figure's and of everything's, of the lint and of the cost preview; then of one job
of every rule (the best of three).
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from clipshift.core.files import write_json

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config/laion400m.yaml"
EVALUATION = "results/eval/pruned_100M.json"
FIGURE = "results/figures/accuracy_vs_similarity_laion.svg"
SNAKEMAKE = ["snakemake", "--snakefile", str(ROOT / "Snakefile"), "--nocolor"]
SNAKEMAKE += ["--configfile", str(CONFIG)]
JOB = ["--dry-run", "--cores", "all", "--attempt", "1", "--force-use-threads", "--force"]
JOB += ["--nolock", "--target-files-omit-workdir-adjustment", "--max-inventory-time", "0"]
JOB += ["--retries", "0", "--notemp", "--no-hooks", "--ignore-incomplete", "--mode", "remote"]


def timed(folder: Path, *words: str) -> tuple[float, float, float, str]:
    """Seconds of the clock and of the processor, peak MiB, and output of `python -m ...`."""
    log = folder / "output.txt"
    start = time.monotonic()
    pid = os.fork()
    if not pid:
        with log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        os.chdir(folder)
        os.execv(sys.executable, [sys.executable, "-m", *words])
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
    rows: dict[str, tuple[float, ...]] = {}
    with tempfile.TemporaryDirectory(prefix="clipshift-") as name:
        folder = Path(name)
        plans = {"one evaluation": ["--", EVALUATION], "one figure": ["--", FIGURE], "all": []}
        for what, targets in plans.items():
            *rows[f"plan: {what}"], plan = timed(folder, *SNAKEMAKE, "--dry-run", *targets)
        *rows["lint"], _ = timed(folder, *SNAKEMAKE, "--lint")
        preview = ["clipshift.apps.cli", "plan", "--configfile", str(CONFIG), "--", EVALUATION]
        *rows["cost preview"], _ = timed(folder, *preview)
        for rule, job in one_of_each(plan).items():
            words = [*SNAKEMAKE, *JOB, "--target-jobs", job, "--allowed-rules", rule]
            rows[f"job: {rule}"] = min(timed(folder, *words)[:3] for _ in range(3))
    for what, (seconds, core, memory) in rows.items():
        print(f"{what:28} {seconds:6.2f} s {core:6.2f} core s {memory:5.0f} MiB")
    if args.out:
        names = ("seconds", "core_seconds", "peak_mib")
        write_json(args.out, {r: dict(zip(names, row, strict=True)) for r, row in rows.items()})


if __name__ == "__main__":
    main()
