"""Put faults into every command and step, and print the table of what became of them.

`python -m tests.faults --times 5 --seed 0`; exit 1 where a fault left wrong or half-written
outputs, a traceback, or a command that cannot go on. `--study N` also kills the small study at N
moments (`tests.workflow.kills`).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from tests.faults.commands import COMMANDS
from tests.faults.trials import FAULTS, VERDICTS, Place, Trial
from tests.fuzz.runs import load
from tests.fuzz.table import counted


def run_all(
    commands: list[str], faults: list[str], times: int, seed: int, folder: Path
) -> list[Trial]:
    """Each fault so many times in each command."""
    found = []
    for name in commands:
        place = Place(COMMANDS[name], folder / name.replace(" ", "-"))
        for fault in faults:
            for i in range(times):
                place.fresh()
                found.append(FAULTS[fault](place, Random(f"{name} {fault} {seed} {i}")))
    return found


def study(kills: int, seed: int, folder: Path) -> list[Trial]:
    """Kills of the whole study by Snakemake."""
    from tests.workflow.kills import disturb
    from tests.workflow.runner import contract, snakemake

    if not kills:
        return []
    snakemake(folder / "whole")
    whole, found, number = contract(folder / "whole"), [], 0
    while len(found) < kills:
        number += 1
        try:
            spent = disturb(folder / str(number), whole, kills - len(found), seed * 1000 + number)
            found += [Trial("study", "kill", "same")] * spent.total()
        except AssertionError as error:
            found.append(Trial("study", "kill", "DIFFERENT", str(error)))
    return found


def text(found: list[Trial]) -> str:
    """Two tables, by command and by fault, and the faults in words."""
    tables = [counted([(t.command, t.verdict) for t in found], VERDICTS, "command")]
    tables.append(counted([(t.fault, t.verdict) for t in found], VERDICTS, "fault"))
    lines = dict.fromkeys(
        f"{t.command} {t.fault} {t.verdict} | {(t.said.strip().splitlines() or [''])[-1][:300]}"
        for t in found
        if t.is_fault
    )
    return "\n".join([*tables, *lines])


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="each fault in each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--study", type=int, default=0, metavar="N", help="kills of the study")
    parser.add_argument("--table", type=Path, help="write the table here, too")
    args = parser.parse_args()
    load()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        found = run_all(
            args.command or list(COMMANDS), args.fault or list(FAULTS), args.times, args.seed,
            Path(folder),
        )  # fmt: skip
        found += study(args.study, args.seed, Path(folder))
    said = text(found)
    print(said)
    print(f"{len(found)} faults; {time.monotonic() - start:.0f} s")
    if args.table:
        args.table.write_text(said + "\n")
    return any(t.is_fault for t in found)


if __name__ == "__main__":
    sys.exit(main())
