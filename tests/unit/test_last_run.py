"""The record of the last run: what is none is as if there were none."""

import json
from pathlib import Path

import pytest

from clipshift.core.files import write_json
from clipshift.study.last_run import RECORD, Run, read

RUN = {
    "options": ["--cores", "2"], "targets": [], "origin": "/x", "host": "h", "pid": 7,
    "born": 1.5, "started": 2, "ended": None, "ok": False,
}  # fmt: skip


def test_a_record_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / RECORD, RUN)
    assert read(tmp_path) == Run(["--cores", "2"], [], "/x", "h", 7, 1.5, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "[" * 100_000, "\xff", *(
            json.dumps(RUN | {name: value})
            for name, value in
            (("options", 5), ("options", [1]), ("targets", "x"), ("origin", None), ("pid", "7"),
             ("started", "2"), ("born", []))
        ),
    ],
)  # fmt: skip
def test_what_is_no_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_bytes(text.encode("latin-1"))
    assert read(tmp_path) is None
