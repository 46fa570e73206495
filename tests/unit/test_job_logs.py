"""What a run says last: notes and errors of its jobs' logs."""

import os
from pathlib import Path

from clipshift.core.job_logs import QUOTED, told

ERROR = "clipshift: error: web/00000.tar: the key 'a' occurs twice\n  delete one"


def test_errors_come_last_and_stale_logs_not_at_all(tmp_path: Path) -> None:
    for name, text in {
        "old.log": "clipshift: error: of a run before",
        "fine.log": "12 samples\nclipshift: note: half of it is left out\n",
        "sets/a.log": f"progress\nclipshift: error: a first attempt\n{ERROR}\n",
        "sets/b.log": ERROR,
        "z.log": "x\nTraceback (most recent call last):\n  line\nKeyError: 'k'\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (100, 100 if name == "old.log" else 200))
    said = told(tmp_path, 150)
    assert said.splitlines()[0] == "clipshift: note: half of it is left out"
    assert said.count(ERROR) == 1
    assert f"{tmp_path}/sets/a.log:\n{ERROR}" in said
    assert "KeyError: 'k'\n" in said
    assert said.endswith(f"{ERROR}\n")
    assert "attempt" not in said
    assert "of a run before" not in said
    assert told(tmp_path, 300) == told(tmp_path / "none", 0) == ""


def test_many_errors_are_counted(tmp_path: Path) -> None:
    for i in range(QUOTED + 3):
        (tmp_path / f"{i:02d}.log").write_text(f"clipshift: error: number {i}")
    assert "and 3 more failed jobs" in told(tmp_path, 0)
