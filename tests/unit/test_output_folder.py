"""Locks, records and identities of output folders."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import Hashing, Unchanged, differing, file_identity, is_file_of
from clipshift.core.files import sha256_bytes
from clipshift.core.output_folder import (
    LOCK,
    locked,
    read_manifest,
    read_record,
    remove_left,
    write_record,
)

HOLD = """
import sys, time
from pathlib import Path
from clipshift.core.output_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_ends_and_a_killed_holder_frees_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "new/out"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        begin = time.monotonic()
        message = (
            rf"out is in use by another run \(process {other.pid} on .+ since 20.*name another"
        )
        for reading in (False, True):
            with pytest.raises(ClipshiftError, match=message), locked(out, reading):
                raise AssertionError("two runs at once")
        assert time.monotonic() - begin < 2
        other.kill()
        other.wait()
    assert (out / LOCK).exists()  # of the killed one
    with locked(out):
        assert str(os.getpid()) in (out / LOCK).read_text()
        with pytest.raises(ClipshiftError, match="in use"), locked(out):
            pass
    assert not (out / LOCK).exists()


def test_a_lock_that_was_removed_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removed = fcntl.flock, []

    def slow(stream: Any, how: int) -> None:
        if not removed:  # the holder ends between our opening and our locking
            removed.append((tmp_path / LOCK).unlink())
        real(stream, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with locked(tmp_path):
        monkeypatch.undo()
        with pytest.raises(ClipshiftError, match="in use"), locked(tmp_path):
            pass


def test_no_locks_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(stream: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path):
        assert "has no locks (No locks available)" in capsys.readouterr().err


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        message = r"file.* cannot be written: .*name another --out"
        with pytest.raises(ClipshiftError, match=message), locked(out):
            pass
    (tmp_path / "out/a.json").mkdir(parents=True)
    with (
        pytest.raises(ClipshiftError, match=r"a\.json is a folder, not a file"),
        locked(tmp_path / "out"),
    ):
        write_record(tmp_path / "out/a.json", {})
    with (
        pytest.raises(ClipshiftError, match="missing, or no folder"),
        locked(tmp_path / "none", reading=True),
    ):
        pass
    assert not (tmp_path / "none").exists()

    def read_only(*_: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "out" / LOCK))

    monkeypatch.setattr(os, "open", read_only)
    with locked(tmp_path / "out", reading=True):
        pass  # a folder that nobody can write is read without a lock
    with (
        pytest.raises(ClipshiftError, match=r"\.lock cannot be written: Read-only"),
        locked(tmp_path / "out"),
    ):
        pass


def test_errors_of_other_places_stay(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "out"):
        (tmp_path / "elsewhere").read_text()


def test_records_know_when_they_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert read_record(path) is None
    written = write_record(path, {"a": 1, "b": {"c": (0.1, None, "é")}})
    assert read_record(path) == {"a": 1, "b": {"c": [0.1, None, "é"]}}
    assert read_record(path, "a", "b") is not None and read_record(path, "d") is None
    assert written["digest"]
    text = path.read_text()
    for damaged in (
        text.replace("0.1", "0.2"), text[:-9], "", "[]", "\x00", '{"a": 1}', "[" * 100_000,
        text.replace("1,", "1e999,"),
    ):  # fmt: skip
        path.write_text(damaged)
        assert read_record(path) is None
    path.write_bytes(b"\xff\xfe{}")
    assert read_record(path) is None
    path.unlink()
    path.mkdir()
    assert read_record(path) is None


def test_manifest_of_another_kind_and_a_damaged_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_manifest(tmp_path, "margins") is None and not capsys.readouterr().err
    write_record(tmp_path / "manifest.json", {"kind": "audit", "files": {}})
    assert read_manifest(tmp_path, "audit") == {"kind": "audit", "files": {}}
    with pytest.raises(ClipshiftError, match="holds the output of `clipshift audit`"):
        read_manifest(tmp_path, "margins")
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "audit", "files": {}}))
    assert read_manifest(tmp_path, "margins") is None
    assert "manifest.json is damaged" in capsys.readouterr().err


def test_only_files_inside_are_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (out / "d").mkdir(parents=True)
    for name in ("d/old", "d/new", "../precious"):
        (out / name).write_text(name)
    remove_left(out, ["d/old", "d/new", "../precious", "gone", "d"], ["d/new"], "why")
    assert (out / "d/new").exists() and (tmp_path / "precious").exists()
    assert not (out / "d/old").exists()
    assert capsys.readouterr().err == f"{out}/d/old was removed: why\n"


def test_identities(tmp_path: Path) -> None:
    path, data = tmp_path / "f", os.urandom(3_000_000)
    path.write_bytes(data)
    known = {"bytes": len(data), "sha256": sha256_bytes(data)}
    assert file_identity(path) == known
    for steps in ([], [1, 1, 2_999_999], [10**9], [5, 2_000_000]):
        with Hashing(path) as hashing:
            for step in steps:
                hashing.to(step)
            assert hashing.identity() == known
    assert is_file_of(path, known) and not is_file_of(path, {"bytes": 1})
    assert not is_file_of(tmp_path, known) and not is_file_of(path, None)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # of the same size
    wanted = {"f": known, "missing": known}
    assert [*differing(tmp_path, wanted)] == [tmp_path / "f", tmp_path / "missing"]
    with pytest.raises(ClipshiftError, match="missing cannot be read: No such file"):
        file_identity(tmp_path / "missing")


@pytest.mark.parametrize("how", ["replaced", "written", "written, times kept", "removed", "made"])
def test_a_change_is_seen(tmp_path: Path, how: str) -> None:
    path, absent = tmp_path / "f", tmp_path / "absent"
    path.write_text("old")
    unchanged = Unchanged([path, absent])
    unchanged.check()
    stat = path.stat()
    if how == "replaced":
        (tmp_path / "g").write_text("new")
        os.utime(tmp_path / "g", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        (tmp_path / "g").replace(path)
    elif how == "removed":
        path.unlink()
    elif how == "made":
        absent.write_text("")
    else:
        time.sleep(0.02)  # times of change have the step of the kernel's clock
        path.write_text("new")
        if how != "written":
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ClipshiftError, match="changed while it was read"):
        unchanged.check()


def test_two_runs_of_robustness_never_mix(tmp_path: Path) -> None:
    from clipshift.apps.robustness.report import robustness
    from clipshift.study.config.robustness import Robustness
    from tests.unit.test_robustness_results import clip_benchmark

    file = clip_benchmark(tmp_path / "in", "imagenetv2", model="ViT-B-32", pretrained="openai")
    with locked(tmp_path / "out"), pytest.raises(ClipshiftError, match="in use by another run"):
        robustness([file], tmp_path / "out", [], Robustness(), False)
    assert [*(tmp_path / "out").iterdir()] == []
