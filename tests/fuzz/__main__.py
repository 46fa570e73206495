"""Fuzz all readers with seeded mutants and print the table of what became of them.

`python -m tests.fuzz --mutants 2000 --seed 0`; exit 1 where a mutant was read wrongly, ended in a
traceback, hung, or took too much memory. `--only SEED.NUMBER` shows one mutant again and keeps its
input. `--keep` adds mutants that failed to the corpus, which every later run tries first.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.runs import chosen, run_all, show
from tests.fuzz.table import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", help="a reader, or a group of them (default: all)")
    parser.add_argument(
        "--only",
        metavar="SEED.NUMBER",
        help="one mutant, or entry of the corpus, in full",
    )
    parser.add_argument("--table", type=Path, help="write the table here, too")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="add what failed to the corpus")
    args = parser.parse_args()
    readers = chosen(args.reader)
    if not readers:
        parser.error(f"no reader {args.reader!r}")
    if args.only:
        if len(readers) != 1:
            parser.error("--only shows a mutant of one reader: name it by --reader")
        return show(readers[0], args.only, Path(tempfile.mkdtemp(prefix="fuzz-")))
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        found = run_all(readers, args.mutants, args.seed, Path(place), args.jobs, args.keep)
    text = table(found)
    print(text)
    old = len(found) - args.mutants
    print(f"{args.mutants} mutants, {old} of the corpus; {time.monotonic() - start:.0f} s")
    if args.table:
        args.table.write_text(text)
    return any(f.is_fault for f in found)


if __name__ == "__main__":
    sys.exit(main())
