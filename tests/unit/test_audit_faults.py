"""Faults under `clipshift audit`: kills, two runs, damage, inputs that change, others' files."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshift.apps.audit import nearest, run
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json
from clipshift.core.output_folder import locked, read_record
from tests import audit_case
from tests.conftest import dump, tied_vectors
from tests.unit import dying
from tests.unit.test_margins_faults import DAMAGES

_RUN = (
    """from clipshift.apps.audit import nearest, page, run, tables
from tests import audit_case
nearest.CHECKPOINT_ROWS = 8""",
    """{"checkpoint": (nearest, "_save"), "table": (run.tables, "write_tables"),
     "list": (run.tables, "write_list"), "page": (page, "write_text"),
     "manifest": (run, "write_record")}""",
    """run.audit(audit_case.options(
        root / "out", {n: root / n for n in ("train", "test", "reference")}), ["x"])""",
)
DYING, FULL = dying.killed(*_RUN), dying.full(*_RUN, 100)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    return audit_case.sides(tmp_path)


def audit(
    tmp_path: Path, given: dict[str, Path], out: str = "out", **more: Any
) -> dict[str, bytes]:
    run.audit(audit_case.options(tmp_path / out, given, **more), ["x"])
    return audit_case.outputs(tmp_path / out)


def started(
    tmp_path: Path, program: str, where: str, at: int
) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    call = [sys.executable, "-c", program, str(tmp_path), where, str(at)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=root)


@pytest.mark.parametrize(("where", "at"), [("checkpoint", 3), ("list", 2), ("page", 1)])
def test_killed_and_run_again_gives_the_same_bytes(
    tmp_path: Path, given: dict[str, Path], where: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "CHECKPOINT_ROWS", 8)
    killed = started(tmp_path, DYING, where, at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out/manifest.json").exists()
    # With other thresholds, so that lists of the killed run are left.
    more = {"thresholds": [0.7, 0.9]} if where == "page" else {}
    assert audit(tmp_path, given, **more) == audit(tmp_path, given, "fresh", **more)


def test_a_full_disk_names_the_file(tmp_path: Path, given: dict[str, Path]) -> None:
    done = started(tmp_path, FULL, "table", 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "out/remove.parquet could not be written: " in done.stderr
    assert not (tmp_path / "out/manifest.json").exists()
    assert not (tmp_path / "out/remove.parquet").exists()


def test_two_runs_never_mix(tmp_path: Path, given: dict[str, Path]) -> None:
    first = audit(tmp_path, given)
    with locked(tmp_path / "out"), pytest.raises(ClipshiftError, match="in use by another run"):
        audit(tmp_path, given | {"train": given["reference"]})
    assert audit(tmp_path, given) == first


def test_another_kind_of_run_is_refused(tmp_path: Path, given: dict[str, Path]) -> None:
    from clipshift.apps.margins.run import margins

    first = audit(tmp_path, given)
    sides = given["train"], {"t": given["test"]}, given["reference"]
    with pytest.raises(ClipshiftError, match="output of `clipshift audit`"):
        margins(*sides, tmp_path / "out")
    assert audit_case.outputs(tmp_path / "out") == first
    margins(*sides, tmp_path / "m")
    with pytest.raises(ClipshiftError, match="output of `clipshift margins`"):
        audit(tmp_path, given, "m")


@pytest.mark.parametrize("how", ["gone", "flip", "deep"])
def test_damaged_outputs_and_checkpoints_are_made_again(
    tmp_path: Path, given: dict[str, Path], how: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(nearest, "CHECKPOINT_ROWS", 8)
    out = tmp_path / "out"
    first = audit(tmp_path, given)
    work = {p: p.read_bytes() for p in sorted((out / "work").rglob("*")) if p.is_file()}
    for name in first:
        stat = (out / name).stat()
        damage(out / name, DAMAGES[how])
        if (out / name).exists():  # as a disk does it: without another time of change
            os.utime(out / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        capsys.readouterr()
        assert audit(tmp_path, given) == first, name
        said = capsys.readouterr().err
        if name != "manifest.json":
            assert f"{out / name} is damaged or missing" in said
            assert "1 damaged files are made again" in said
        elif how != "gone":
            assert "manifest.json is damaged" in said
    for path in work:
        damage(path, DAMAGES[how])
        (out / "nearest.parquet").unlink()
        capsys.readouterr()
        assert audit(tmp_path, given) == first, path
        if path.suffix == ".npz" and (how != "gone" or path.name != "tests.npz"):
            assert "all its similarities are computed again" in capsys.readouterr().err
    assert any(path.name.startswith("train-") for path in work)


def damage(path: Path, how: Callable[[bytes], bytes | None]) -> None:
    data = how(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)


def test_damaged_copies_and_embeddings_are_made_again(
    tmp_path: Path, given: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tied_vectors(1, 20, 8)
    np.savez(tmp_path / "t.npz", vectors=rows, keys=[f"k{i}" for i in range(20)])
    sides = given | {"train": tmp_path / "t.npz"}
    first = audit(tmp_path, sides)
    copies = [p for p in (tmp_path / "out/work/given-train").rglob("*") if p.is_file()]
    assert len(copies) == 4
    for path in copies:
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        capsys.readouterr()
        assert audit(tmp_path, sides) == first
        assert "given-train is made again" in capsys.readouterr().err


def test_damaged_embeddings_of_images_are_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for side in ("train", "test"):
        (tmp_path / side).mkdir()
        for i in range(3):
            Image.new("RGB", (20, 20), (40 * i, 9, 99)).save(tmp_path / side / f"{i}.png")
    images = {"train_images": tmp_path / "train", "test_images": tmp_path / "test"}
    first = audit(tmp_path, images)
    made = [p for p in (tmp_path / "out/work").rglob("*") if "embed-" in str(p) and p.is_file()]
    assert len(made) == 6
    for path in made:
        data = path.read_bytes()
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        (tmp_path / "out/nearest.parquet").unlink()
        capsys.readouterr()
        assert audit(tmp_path, images) == first
        assert f"{path} is damaged or missing; its part" in capsys.readouterr().err


@pytest.mark.parametrize("side", ["train", "test", "reference"])
@pytest.mark.parametrize("when", ["sweep", "_write"])
def test_an_input_that_changes_meanwhile(
    tmp_path: Path, given: dict[str, Path], side: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the outputs nor a checkpoint are those of two contents."""
    shard = {"train": "2", "test": "0", "reference": "0"}[side]
    path = given[side] / f"img_emb/img_emb_{shard}.npy"
    old = path.read_bytes()
    real, done = getattr(run, when), []

    def swapping(*args: Any, **named: Any) -> Any:
        if not done:
            done.append(path.write_bytes(old[:-2] + b"\x00\x00"))
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(run, when, swapping)
        with pytest.raises(ClipshiftError, match=f"{path.name} changed while"):
            audit(tmp_path, given)
    assert not (tmp_path / "out/manifest.json").exists()
    path.write_bytes(old)
    assert audit(tmp_path, given) == audit(tmp_path, given, "fresh")


def test_predictions_and_pictures_that_change_meanwhile(
    tmp_path: Path, given: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = dump(tmp_path / "p.csv", "key,correct\ntest/0.jpg,1\n")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"")
    real = run._write
    for path in (table, tmp_path / "pictures/a.png"):

        def swapping(*args: Any, changed: Path = path) -> Any:
            changed.write_text("key,correct\ntest/0.jpg,0\n")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(run, "_write", swapping)
            with pytest.raises(ClipshiftError, match=r"p\.csv changed|pictures: images changed"):
                audit(tmp_path, given, path.stem, predictions=table,
                      test_images=tmp_path / "pictures")  # fmt: skip
        assert not (tmp_path / path.stem / "manifest.json").exists()


def test_files_of_others_stay(
    tmp_path: Path, given: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(ClipshiftError, match=r"index\.html was not written by `clipshift audit`"):
        audit(tmp_path, given)
    assert (out / "index.html").read_text() == "mine"
    (out / "index.html").unlink()
    audit(tmp_path, given)
    (out / "remove_notes.txt").write_text("mine")
    found = audit(tmp_path, given, thresholds=[0.7, 0.9])
    assert found.pop("remove_notes.txt") == b"mine"
    assert "remove_0.5.txt was removed: it is no output of this audit" in capsys.readouterr().err
    assert found == audit(tmp_path, given, "fresh", thresholds=[0.7, 0.9])
    (out / "remove_0.8.txt").write_text("mine")
    with pytest.raises(ClipshiftError, match=r"remove_0\.8\.txt was not written"):
        audit(tmp_path, given, thresholds=[0.8, 0.9])


def test_a_folder_of_an_earlier_version_is_taken_over(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    first = audit(tmp_path, given)
    (tmp_path / "out/manifest.json").unlink()
    write_json(tmp_path / "out/work/done.json", {"identity": "x", "outputs": {}})
    assert audit(tmp_path, given) == first


def test_the_manifest_lists_every_output(tmp_path: Path, given: dict[str, Path]) -> None:
    found = audit(tmp_path, given)
    manifest = read_record(tmp_path / "out/manifest.json")
    assert manifest is not None
    assert {*manifest["files"]} == {*found} - {"manifest.json"}
    assert manifest["kind"] == "audit"
    assert read_json(tmp_path / "out/manifest.json")["files"] == manifest["files"]
    shutil.rmtree(tmp_path / "out/work")  # as the page says, it can be deleted
    assert audit(tmp_path, given) == found
