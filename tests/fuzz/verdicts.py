"""One mutant through one reader: what it did, and what an oracle says of it."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.isolated import Ended, Limits, isolated
from tests.fuzz.mutants import mutate
from tests.fuzz.reader import MustRefuse, Reader

GOOD = ("clean", "right", "usage")
BAD = ("unnamed", "traceback", "WRONG", "oracle", "hang", "memory", "signal")
VERDICTS = GOOD + BAD


@dataclass(frozen=True)
class Verdict:
    """The verdict on one mutant.

    Attributes:
        verdict: clean (refused, with a message that names the input), right (read, and the oracle
            agrees), usage (refused as a command); or a fault: unnamed (refused, the input is not
            named), traceback, WRONG (read as something else than it is), oracle (read where the
            oracle cannot), hang, memory, signal.
    """

    reader: str
    verdict: str
    mutant: str = ""
    seed: str = ""
    file: str = ""
    said: str = ""
    seconds: float = 0.0
    mebibytes: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_fault(self) -> bool:
        return self.verdict in BAD


@dataclass(frozen=True)
class Base:
    """A reader's valid input, and what the reader makes of it."""

    folder: Path
    value: Any


def prepare(reader: Reader, folder: Path, limits: Limits = Limits()) -> Base:  # noqa: B008
    """Build a reader's input and read it once.

    Raises:
        AssertionError: the product cannot read it, or the oracle disagrees: no verdict on mutants
            would mean anything.
    """
    source = folder / "input"
    source.mkdir(parents=True)
    built = isolated(lambda: reader.build(source), limits)
    assert built.how == "value", f"{reader.name}: {built.said}"
    found = _read(reader, source, folder / "out", limits)
    assert found.how == "value", f"{reader.name} cannot read its own input: {found.said}"
    wanted = isolated(lambda: reader.truth(source), limits)
    assert wanted.how == "value", f"{reader.name}: the oracle cannot read: {wanted.said}"
    agrees = reader.agrees(found.value, wanted.value) and reader.agrees(found.value, found.value)
    assert agrees, f"{reader.name}: {found.value} is not {wanted.value}"
    return Base(source, found.value)


def _read(reader: Reader, source: Path, out: Path, limits: Limits) -> Ended:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    ended = isolated(lambda: reader.read(source, out), limits)
    shutil.rmtree(out, ignore_errors=True)
    return ended


def judge(
    reader: Reader, base: Base, source: Path, out: Path, name: str, limits: Limits = Limits()  # noqa: B008
) -> Verdict:  # fmt: skip
    """Read a mutated input and say what became of it.

    Args:
        name: of the file that was mutated.
    """
    ended = _read(reader, source, out, limits)
    verdict, said = ended.how, ended.said
    if ended.how == "value":
        verdict, said = _checked(reader, base, source, ended.value, limits)
    elif ended.how == "refused":
        named = not reader.names_input or any(n in ended.said for n in (name, str(source)))
        verdict = "clean" if named else "unnamed"
    mebibytes = ended.resident >> 20
    return Verdict(reader.name, verdict, said=said, seconds=ended.seconds, mebibytes=mebibytes)


def _checked(
    reader: Reader, base: Base, source: Path, value: Any, limits: Limits
) -> tuple[str, str]:
    def truth() -> tuple[bool, Any]:
        try:
            return True, reader.truth(source)
        except MustRefuse as why:
            return False, str(why)

    wanted = isolated(truth, limits)
    if wanted.how == "value":
        may, what = wanted.value
        if not may:
            return "WRONG", f"must be refused: {what}"
        if _agrees(reader, value, what, base.value):
            return "right", ""
        return "WRONG", f"{str(value)[:1500]} is not {str(what)[:1500]}"
    if _agrees(reader, value, base.value):
        return "right", ""
    return "oracle", f"read as {str(value)[:500]}; the oracle: {wanted.said[-1000:]}"


def _agrees(reader: Reader, value: Any, *wanted: Any) -> bool:
    """Whether a value is one of those wanted; one that cannot even be compared is not."""
    for one in wanted:
        try:
            if reader.agrees(value, one):
                return True
        except Exception:
            continue
    return False


def mutated(reader: Reader, source: Path, seed: str) -> tuple[Path, str]:
    """Change a file of an input in a child (libraries that write start threads); which, and how."""
    for turn in range(20):
        chance = Random(f"{reader.name} {seed} {turn}")
        target = chance.choice(reader.targets(source))
        made = isolated(lambda t=target, c=chance: mutate(t, c), Limits(seconds=60))
        if made.how == "value":
            return target, made.value
    raise AssertionError(f"{reader.name} {seed}: no mutant could be made: {made.said}")


def one(
    reader: Reader, base: Base, place: Path, seed: str, limits: Limits = Limits()  # noqa: B008
) -> Verdict:  # fmt: skip
    """The mutant of a seed; its input stays in `place/input`."""
    source = place / "input"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base.folder, source)
    target, mutant = mutated(reader, source, seed)
    found = judge(reader, base, source, place / "out", target.name, limits)
    file = str(target.relative_to(source))
    return Verdict(**(found.as_json() | {"mutant": mutant, "seed": seed, "file": file}))
