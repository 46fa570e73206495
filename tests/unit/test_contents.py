"""Copies with other dates: known by content, and never by more than that."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from snakemake.persistence import MetadataRecord

from clipshift.study import contents


class Records:
    """Snakemake's records of jobs."""

    def __init__(self, *paths: str):
        self.of = {p: MetadataRecord(rule="r", params=["1"]) for p in paths}

    def _read_record(self, path: str) -> Any:
        return self.of.get(path)

    def _write_record(self, path: str, record: MetadataRecord) -> None:
        self.of[path] = record

    def deactivate_cache(self) -> None:
        pass


A, B, FOLDER, NOBODYS = "results/a.txt", "results/b/b.txt", "results/d", "results/README.md"
TIMES = "results/benchmarks/a.tsv"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """Three made files, `b` after `a`, the third in an output folder, recorded."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate((A, B, f"{FOLDER}/deep/c.txt", NOBODYS, TIMES)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
        os.utime(name, (1000 + number, 1000 + number))
    made = Records(A, B, FOLDER)
    assert contents.record(made) == ""
    return made


def dates() -> list[int]:
    return [int(Path(name).stat().st_mtime) for name in (A, B, f"{FOLDER}/deep/c.txt")]


def copy(order: tuple[str, ...] = (B, A)) -> None:
    """`cp -r` of everything, in some order."""
    shutil.copytree("results", "copy", copy_function=shutil.copyfile)
    shutil.rmtree("results")
    Path("copy").rename("results")
    for number, name in enumerate(order):
        os.utime(name, (5000 + number, 5000 + number))


def test_nothing_is_read_where_nothing_was_copied(records: Records) -> None:
    os.utime(A, (9000, 9000))  # by hand: it is new
    assert contents.restore(records) == ""
    assert dates()[0] == 9000


@pytest.mark.parametrize("kept", [True, False])
def test_equal_content_gets_its_date_and_its_record(records: Records, kept: bool) -> None:
    copy()
    there = records if kept else Records()
    assert contents.restore(there) == "All are as they were recorded\n"
    assert dates() == [1000, 1001, 1002]
    assert Path(TIMES).stat().st_mtime == 1004
    assert there.of.keys() == {A, B, FOLDER}
    assert there.of[A].params == ["1"]
    assert contents.restore(there) == ""


def test_dates_that_were_kept_need_the_records_alone(records: Records) -> None:
    lost = Records()
    assert contents.restore(lost) == "All are as they were recorded\n"
    assert lost.of.keys() == {A, B, FOLDER}


def test_other_content_is_new_whatever_its_date(records: Records) -> None:
    copy()
    Path(A).write_text(A.upper())  # of the same size
    os.utime(A, (10, 10))
    assert f"3 are as they were recorded; of other content, so new: {A}\n" == contents.restore(
        records
    )
    assert dates()[0] > 1_000_000_000 and dates()[1:] == [1001, 1002]


def test_what_is_not_read_in_time_is_counted_and_read_later(records: Records) -> None:
    Path(A).write_text("new")
    assert "1 files (0 GB) are not read yet" in contents.record(records, seconds=-1)
    copy()
    contents.restore(records)
    assert dates()[0] == 5001 and dates()[1] == 1001  # as a copy without a record: new
    assert contents.record(records) == ""
    assert A in contents.RECORD.read_text()


def test_what_no_job_made_is_not_recorded(records: Records) -> None:
    assert NOBODYS not in contents.RECORD.read_text()


@pytest.mark.parametrize("damage", ["", "{", '{"written": "x"}\n', '{"written": 1}\n{"a": 2}\n'])
def test_a_damaged_record_is_none(records: Records, damage: str) -> None:
    contents.RECORD.write_text(damage)
    assert contents.restore(records) == ""
    assert contents.record(records) == "" and A in contents.RECORD.read_text()


def test_dates_that_an_archive_rounded_are_kept_dates(records: Records) -> None:
    date = contents.RECORD.stat().st_mtime_ns // contents.SECOND
    os.utime(contents.RECORD, (date, date))
    assert contents.restore(records) == ""
