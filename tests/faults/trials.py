"""The faults: kill, full disk, read-only, input changed in mid-run, and two writers.

Every trial runs the command in one folder, so that paths in the outputs are equal.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from tests.faults.commands import Command
from tests.fuzz.isolated import Ended, Limits, isolated

GOOD = ("same", "refused", "absent")
BAD = ("DIFFERENT", "LEFT", "unnamed", "traceback", "hang", "memory", "signal")
VERDICTS = GOOD + BAD
LIMITS = Limits(seconds=60)
Files = dict[str, str]


@dataclass(frozen=True)
class Trial:
    """One fault in one command.

    Attributes:
        verdict: same (the bytes of the undisturbed run in the end), refused (with a sentence that
            names a path, and nothing wrong left behind), absent (this machine cannot be given the
            fault); or a fault of ours: DIFFERENT (other bytes under a final name), LEFT (parts
            left behind), unnamed, traceback, hang, memory, signal.
    """

    command: str
    fault: str
    verdict: str
    said: str = ""

    @property
    def is_fault(self) -> bool:
        return self.verdict in BAD


class Place:
    """Where one command is tried: `input` and `out`, made anew for each trial."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder = command, folder
        self.input, self.out = folder / "input", folder / "out"
        self.fresh()
        start = time.monotonic()
        self.whole = self._undisturbed()
        self.seconds = time.monotonic() - start
        self.fresh()
        assert self._undisturbed() == self.whole, f"{command.name}: two runs differ"
        self.fresh()
        command.alter(self.input)
        self.altered = self._undisturbed()
        self.fresh()

    def fresh(self) -> None:
        """The input as built, and no output."""
        saved = self.folder / "saved"
        if not saved.exists():
            saved.mkdir(parents=True)
            built = isolated(lambda: self.command.build(saved), LIMITS)
            assert built.how == "value", built.said
        for path in (self.input, self.out):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(saved, self.input)
        self.out.mkdir()

    def run(self, limits: Limits = LIMITS, meanwhile: Callable[[int], None] = lambda _: None,
            out: Path | None = None) -> Ended:  # fmt: skip
        """The command, in a child."""
        where = out or self.out
        return isolated(lambda: self.command.run(self.input, where), limits, meanwhile)

    def _undisturbed(self) -> Files:
        ended = self.run()
        assert ended.how == "value", f"{self.command.name}: {ended.said}"
        return self.files()

    def files(self) -> Files:
        """Digests of what lies there under final names."""
        found = {}
        for path in sorted(p for p in self.out.rglob("*") if p.is_file()):
            name = str(path.relative_to(self.out))
            if not self.is_part(path) and not name.startswith(self.command.private):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    @staticmethod
    def is_part(path: Path) -> bool:
        return path.suffix in (".part", ".tmp", ".lock") or path.name.startswith(".")

    def parts(self) -> list[str]:
        return [
            p.name for p in self.out.rglob("*")
            if p.is_file() and p.suffix in (".part", ".tmp")
        ]  # fmt: skip

    def changes(self, *wholes: Files) -> list[str]:
        """Files that are as in none of the undisturbed results."""
        return [n for n, d in self.files().items() if all(w.get(n) != d for w in wholes)]

    def trial(self, fault: str, verdict: str, said: str = "") -> Trial:
        return Trial(self.command.name, fault, verdict, said)

    def after(self, fault: str, ended: Ended, *wholes: Files) -> Trial:
        """The verdict on a run that came to its end, with outputs of one undisturbed result."""
        if ended.how == "value":
            mixed = self.files() not in wholes
            return self.trial(fault, "DIFFERENT" if mixed else "same", self.differing(*wholes))
        if ended.how in ("refused", "usage"):
            if wrong := self.changes(*wholes):
                return self.trial(fault, "DIFFERENT", f"refused, but left {wrong}: {ended.said}")
            # Of what is full or closed: that may be the folder of temporary files.
            named = re.search(r"(^|\s)/\w", ended.said)
            return self.trial(fault, "refused" if named else "unnamed", ended.said)
        return self.trial(fault, ended.how, ended.said)

    def differing(self, *wholes: Files) -> str:
        found = self.files()
        names = [
            sorted(n for n in found.keys() | w.keys() if found.get(n) != w.get(n)) for w in wholes
        ]
        return f"differs from the undisturbed: {names}"

    def again(self, first: Trial) -> Trial:
        """Run once more without a fault: the bytes of the undisturbed run, and no parts."""
        if first.is_fault:
            return first
        second = self.after(first.fault, self.run(), self.whole)
        if second.verdict == "refused" and self.files() != self.whole:
            return self.trial(first.fault, "unnamed", f"does not continue: {second.said}")
        if second.is_fault:
            return second
        if parts := self.parts():
            return self.trial(first.fault, "LEFT", f"{parts}")
        return first


def kill(place: Place, chance: Random) -> Trial:
    """SIGKILL at a random moment; the next run makes the undisturbed result."""
    moment = chance.uniform(0, place.seconds)

    def strike(child: int) -> None:
        time.sleep(moment)
        if Path(f"/proc/{child}").exists():
            os.kill(child, signal.SIGKILL)

    ended = place.run(meanwhile=strike)
    if ended.how not in ("signal", "value"):
        return place.trial("kill", ended.how, ended.said)
    if wrong := place.changes(place.whole):
        return place.trial("kill", "DIFFERENT", f"killed after {moment:.2f} s: {wrong}")
    return place.again(place.trial("kill", "same"))


def full(place: Place, chance: Random) -> Trial:
    """Files cannot grow beyond a random size, as on a full disk."""
    largest = max((p.stat().st_size for p in _outputs_of(place)), default=0)
    if not largest:
        return place.trial("full", "absent", "it writes no file")
    place.fresh()
    limit = chance.randrange(largest)
    ended = place.run(replace(LIMITS, file=limit))
    return place.again(place.after("full", ended, place.whole))


def _outputs_of(place: Place) -> list[Path]:
    ended = place.run()
    assert ended.how == "value", ended.said
    return [p for p in place.out.rglob("*") if p.is_file()]


def filesystem(place: Place, chance: Random) -> Trial:
    """A file system of a few pages that is full."""
    pages = chance.randrange(2, 8)
    with _mounted(place.out, "-t", "tmpfs", "-o", f"size={4 * pages}k", "none") as there:
        if not there:
            return place.trial("tmpfs", "absent", "mount is not permitted")
        return place.after("tmpfs", place.run(), place.whole)


def readonly(place: Place, chance: Random) -> Trial:
    """The output folder cannot be written; or its parent is a file."""
    if chance.random() < 0.5:
        (place.folder / "file").write_text("")
        return place.after("read-only", place.run(out=place.folder / "file/out"), place.whole)
    with _mounted(place.out, "-t", "tmpfs", "-o", "ro", "none") as there:
        if not there:
            return place.trial("read-only", "absent", "mount is not permitted")
        return place.after("read-only", place.run(), place.whole)


class _mounted:
    """A mount while the block runs; whether it could be made."""

    def __init__(self, path: Path, *words: str) -> None:
        self.path, self.words = path, words

    def __enter__(self) -> bool:
        done = subprocess.run(["mount", *self.words, self.path], capture_output=True, check=False)
        self.made = done.returncode == 0
        return self.made

    def __exit__(self, *_: object) -> None:
        if self.made:
            subprocess.run(["umount", "--lazy", self.path], check=True)


def changed(place: Place, chance: Random) -> Trial:
    """The input is replaced in mid-run: the result of the one or the other, or a refusal."""
    moment = chance.uniform(0, place.seconds)

    def strike(child: int) -> None:
        time.sleep(moment)
        altered = isolated(lambda: place.command.alter(place.input), LIMITS)
        assert altered.how == "value", altered.said

    found = place.after("changed", place.run(meanwhile=strike), place.whole, place.altered)
    if found.is_fault or not place.command.renews:
        return found
    # The next run is one of the new input, whatever the first one left; or it says that it is not.
    ended = place.run()
    wholes = [place.altered] if ended.how == "value" else [place.whole, place.altered]
    second = place.after("changed", ended, *wholes)
    return second if second.is_fault else found


def writers(place: Place, chance: Random) -> Trial:
    """The same command twice at a time in one folder: both right, or one is refused."""
    return _two(place, chance, "two writers", lambda: None, place.whole)


def others(place: Place, chance: Random) -> Trial:
    """Two commands of different inputs at a time in one folder: never a mix."""

    def alter() -> None:
        altered = isolated(lambda: place.command.alter(place.input), LIMITS)
        assert altered.how == "value", altered.said

    return _two(place, chance, "two inputs", alter, place.whole, place.altered)


def _two(
    place: Place, chance: Random, fault: str, between: Callable[[], None], *wholes: Files
) -> Trial:
    """A second run begins while the first one is at work."""
    ends: list[Ended] = []
    moment = chance.uniform(0, place.seconds)

    def second(child: int) -> None:
        time.sleep(moment)
        between()
        ends.append(place.run())

    ends.append(place.run(meanwhile=second))
    for ended in ends:
        if ended.how not in ("value", "refused", "usage"):
            return place.trial(fault, ended.how, ended.said)
    if all(ended.how != "value" for ended in ends):
        if any("changed while it was read" in ended.said for ended in ends):
            # The first saw that its input changed, and the folder is still its own.
            return place.trial(fault, "refused", "")
        return place.trial(fault, "DIFFERENT", f"both refused: {[e.said for e in ends]}")
    if place.files() not in wholes:
        said = [e.said[-200:] for e in ends if e.how != "value"]
        return place.trial(fault, "DIFFERENT", f"{place.differing(*wholes)}; refused: {said}")
    if parts := place.parts():
        return place.trial(fault, "LEFT", str(parts))
    return place.trial(fault, "same")


FAULTS: dict[str, Callable[[Place, Random], Trial]] = {
    "kill": kill, "full": full, "tmpfs": filesystem, "read-only": readonly, "changed": changed,
    "two writers": writers, "two inputs": others,
}  # fmt: skip
