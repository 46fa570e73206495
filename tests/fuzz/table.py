"""The table of verdicts, and the distinct faults below it."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.fuzz.verdicts import VERDICTS, Verdict


def table(found: Sequence[Verdict]) -> str:
    """A line for each group of readers and verdict counts, then one for each distinct fault."""
    return counted([(f.reader.partition(".")[0], f.verdict) for f in found], VERDICTS) + faults(
        found
    )


def counted(
    pairs: Sequence[tuple[str, str]], verdicts: Sequence[str], first: str = "reader"
) -> str:
    """Counts of (line, column) pairs with sums."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line, verdict in pairs:
        counts[line][verdict] += 1
        counts["all"][verdict] += 1
    width = max(map(len, [first, *counts]))
    lines = [f"{first:{width}}" + "".join(f"{v:>10}" for v in [*verdicts, "sum"])]
    for line in [*sorted(counts.keys() - {"all"}), "all"]:
        row = [counts[line][v] for v in verdicts]
        lines.append(f"{line:{width}}" + "".join(f"{n:>10}" for n in [*row, sum(row)]))
    return "\n".join(lines) + "\n"


def faults(found: Sequence[Verdict]) -> str:
    """Faults of one kind in one line, with how to see the first again."""
    kinds: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for f in found:
        if f.is_fault:
            kinds[f.reader, f.verdict, plain(f)].append(f)
    lines = []
    for (reader, verdict, said), same in sorted(kinds.items()):
        mutants = ", ".join(sorted({f.mutant for f in same}))
        lines.append(
            f"{reader} {verdict} {len(same)} | {said} | {mutants} | "
            f"python -m tests.fuzz --reader {reader} --only {same[0].seed}"
        )
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def plain(found: Verdict) -> str:
    """What was said without what differs from mutant to mutant."""
    if found.verdict in ("hang", "memory"):
        return ""
    lines = found.said.strip().splitlines() or [""]
    last = lines[-1] if found.verdict in ("traceback", "oracle") else lines[0]
    last = re.sub(r"'?/\S*", "PATH", last)
    return re.sub(r"\d+", "N", last)[:160]
