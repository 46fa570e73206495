"""Faults in every command once, and controls: commands that are wrong must be seen to be."""

import os
from pathlib import Path
from random import Random

import pytest

from tests.faults import broken
from tests.faults.__main__ import run_all, text
from tests.faults.commands import COMMANDS, Command
from tests.faults.trials import FAULTS, Place, Trial
from tests.fuzz.runs import load

# What a minute allows; `make faults` tries all, several times.
SOME = ("margins", "init", "step urls", "step pool", "step copy")


def verdicts(command: Command, fault: str, folder: Path, times: int = 6) -> set[str]:
    place = Place(command, folder)
    found = set()
    for i in range(times):
        place.fresh()
        found.add(FAULTS[fault](place, Random(i)).verdict)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_careful_command_passes_every_fault(fault: str, tmp_path: Path) -> None:
    assert verdicts(broken.Plain(), fault, tmp_path, 3) <= {"same", "refused", "absent"}


@pytest.mark.parametrize(
    ("command", "fault", "expected"),
    [
        (broken.InPlace(), "kill", "DIFFERENT"),
        (broken.InPlace(), "full", "DIFFERENT"),
        (broken.InPlace(), "two inputs", "DIFFERENT"),
        (broken.Surprised(), "read-only", "traceback"),
        (broken.Littering(), "kill", "LEFT"),
        (broken.Rereading(), "changed", "DIFFERENT"),
    ],
)
def test_every_fault_finds_a_command_that_is_wrong(
    command: Command, fault: str, expected: str, tmp_path: Path
) -> None:
    assert expected in verdicts(command, fault, tmp_path, 10)


def test_trials_are_counted_and_faults_named() -> None:
    found = [
        Trial("a", "kill", "same"), Trial("a", "full", "refused"),
        Trial("b", "kill", "DIFFERENT", "one\ntwo"),
    ]  # fmt: skip
    lines = text(found).splitlines()
    assert lines[1].split() == ["a", *["1", "1", "0", "0", "0", "0", "0", "0", "0", "0", "2"]]
    assert lines[2].split() == ["b", *["0", "0", "0", "1", "0", "0", "0", "0", "0", "0", "1"]]
    assert lines[-1] == "b kill DIFFERENT | two"


@pytest.mark.timeout(1200)
def test_faults_in_some_commands(tmp_path: Path) -> None:
    load()
    times = int(os.environ.get("CLIPSHIFT_FAULTS", "1"))
    found = run_all(list(COMMANDS if times > 1 else SOME), list(FAULTS), times, 0, tmp_path)
    assert len(found) >= len(SOME) * len(FAULTS)
    assert not any(t.is_fault for t in found), text(found)
