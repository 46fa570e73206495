"""Faults under `clipshift margins`: kills, full disks, two writers, inputs that change."""

import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from clipshift.apps.cli import main
from clipshift.apps.margins import run as margins_folder
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.core.output_folder import locked
from clipshift.similarity import margins
from clipshift.similarity.embeddings import list_shards, read_all, shard_paths
from tests.unit import dying, margins_case
from tests.unit.margins_case import SHARDS, contents, write
from tests.unit.test_engine import clip_like

NEAR = {"k": 3, "grid": [0.5, 0.9]}

# The run dies at the given call of the function that makes rows, or writes a file.
_RUN = (
    "from clipshift.apps.margins import run\nfrom clipshift.similarity import margins",
    """{"rows": (margins, "rows_table"), "record": (margins, "write_record"),
     "table": (run, "write_parquet"), "manifest": (run, "write_record")}""",
    """run.margins(root / "pool", {name: root / name for name in ("val", "r")}, root / "ref",
                root / "out", k=3, grid=[0.5, 0.9])""",
)
DYING, FULL = dying.killed(*_RUN), dying.full(*_RUN, 1000)


@pytest.fixture
def case(tmp_path: Path) -> dict[str, Any]:
    return margins_case.inputs(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run, and what its folder holds; tests copy it."""
    root = tmp_path_factory.mktemp("whole")
    margins_folder.margins(**margins_case.inputs(root), **NEAR)
    return root


def copy_of(whole: Path, to: Path) -> dict[str, Any]:
    """The run's folder beside the same inputs; the inputs stay where they are."""
    tests = {n: whole / n for n in ("val", "r")}
    shutil.copytree(whole / "out", to / "out")
    pool, reference = whole / "pool", whole / "ref"
    return {"pool": pool, "tests": tests, "reference": reference, "out": to / "out"}


@pytest.mark.parametrize(
    ("where", "at"),
    [("rows", 4), ("record", 3), ("table", 4), ("manifest", 1)],
)
def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path, where: str, at: int) -> None:
    case = margins_case.inputs(tmp_path)
    call = [sys.executable, "-c", DYING, str(tmp_path), where, str(at)]
    killed = subprocess.run(call, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (case["out"] / "manifest.json").exists()
    with pytest.raises(ClipshiftError, match="missing"):
        margins_folder.verify(case["out"], 10, 0)
    margins_folder.margins(**case, **NEAR)
    found = contents(case["out"])
    assert not [name for name in found if name.endswith(".part") or ".lock" in name]
    shutil.rmtree(case["out"])
    margins_folder.margins(**case, **NEAR)
    assert found == contents(case["out"])
    margins_folder.verify(case["out"], 1000, 0)


def test_a_full_disk_names_the_file(case: dict[str, Any]) -> None:
    call = [sys.executable, "-c", FULL, str(case["pool"].parent), "rows", "1"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = rf"{case['out']}/(val|r)/0\.parquet could not be written: .*File too large"
    assert re.search(said, done.stderr, re.S), done.stderr
    assert not (case["out"] / "manifest.json").exists()
    assert not list(case["out"].rglob("*/0.parquet")) and not list(case["out"].rglob("*.part"))


def test_two_runs_never_mix(case: dict[str, Any], tmp_path: Path) -> None:
    other = write(tmp_path / "other", "0", clip_like(60, 99))
    with locked(case["out"]), pytest.raises(ClipshiftError, match="in use by another run"):
        margins_folder.margins(**case)
    margins_folder.margins(**case)
    before = contents(case["out"])
    with locked(case["out"]), pytest.raises(ClipshiftError, match="in use by another run"):
        margins_folder.verify(case["out"], 10, 0)
    with pytest.raises(ClipshiftError, match="margins of other inputs"):
        margins_folder.margins(**case | {"reference": other})
    (case["out"] / "run.json").unlink()  # certificates still know their reference
    with pytest.raises(ClipshiftError, match=r"certificates/0\.json is of another reference"):
        margins_folder.margins(**case | {"reference": other})
    margins_folder.margins(**case)
    assert contents(case["out"]) == before


def test_a_refused_run_leaves_the_copies_of_the_first(tmp_path: Path) -> None:
    for name, n, seed in (("pool", 50, 1), ("val", 9, 2), ("ref", 20, 3), ("other", 20, 4)):
        np.savez(tmp_path / f"{name}.npz", vectors=clip_like(n, seed),
                 keys=[f"{name}{i}" for i in range(n)])  # fmt: skip
    out, tests = tmp_path / "out", {"val": tmp_path / "val.npz"}
    margins_folder.margins(tmp_path / "pool.npz", tests, tmp_path / "ref.npz", out)
    before = contents(out)
    with pytest.raises(ClipshiftError, match="reference differ"):
        margins_folder.margins(tmp_path / "pool.npz", tests, tmp_path / "other.npz", out)
    assert contents(out) == before
    # A damaged copy is made again of what was given, and so is what depends on it.
    for name in [n for n in before if n.startswith("given/")]:
        (out / name).write_bytes(before[name][:-3])
        margins_folder.margins(tmp_path / "pool.npz", tests, tmp_path / "ref.npz", out)
        assert contents(out) == before, name
    margins_folder.verify(out, 100, 0)


def swapping(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, swap: Callable[[], Any]
) -> None:
    """`swap` happens once, when the function is called the first time."""
    real, done = getattr(module, name), []

    def call(*args: Any, **named: Any) -> Any:
        if not done:
            done.append(1)
            swap()
        return real(*args, **named)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["replaced", "overwritten", "removed"])
def test_a_shard_that_changes_while_it_is_read(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, which: int, how: str, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", "0", clip_like(150, 77))
    old, new = (shard_paths(folder, "0")[which] for folder in (case["pool"], other))

    def swap() -> None:
        if how == "removed":
            old.unlink()
        elif how == "replaced":
            new.replace(old)
        else:
            old.write_bytes(new.read_bytes())

    with monkeypatch.context() as patch:
        swapping(patch, margins, "rows_table", swap)
        with pytest.raises(ClipshiftError, match=f"{old.name} (changed while|cannot be read)"):
            margins_folder.margins(**case)
    assert not (case["out"] / "certificates/0.json").exists()
    assert not (case["out"] / "val/0.parquet").exists()
    write(case["pool"], "0", clip_like(150, 77))
    margins_folder.margins(**case)
    fresh = case | {"out": tmp_path / "fresh"}
    margins_folder.margins(**fresh)
    assert contents(case["out"]) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("side", ["pool", "ref", "val"])
def test_an_input_that_changes_after_it_was_read(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch, side: str, tmp_path: Path
) -> None:
    """Of shard 0, when shard 10 is at work: its margins are those of a file that is gone."""
    real = margins_folder.write_shard

    def late(folder: Path, shard: str, *rest: Any, **named: Any) -> Any:
        if shard == "10":
            write(tmp_path / side, "0", clip_like(40, 78))
        return real(folder, shard, *rest, **named)

    monkeypatch.setattr(margins_folder, "write_shard", late)
    with pytest.raises(ClipshiftError, match=rf"{side}/.*img_emb_0\.npy changed while"):
        margins_folder.margins(**case)
    assert not (case["out"] / "manifest.json").exists()


def test_a_shard_that_comes_in_mid_run(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    swapping(monkeypatch, margins, "rows_table", lambda: write(case["pool"], "3", clip_like(9, 1)))
    with pytest.raises(ClipshiftError, match="got other shards meanwhile"):
        margins_folder.margins(**case)


def test_a_shard_that_left_leaves_the_result(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    margins_folder.margins(**case, **NEAR)
    own = ["notes.txt", "val/notes.txt", "val/extra.parquet", "certificates/mine"]
    for name in own:
        (case["out"] / name).write_text("mine")
    for path in shard_paths(case["pool"], "1"):
        path.unlink()
    with pytest.raises(ClipshiftError, match=r"shards \['1'\] came or left|extra\.parquet is no"):
        margins_folder.verify(case["out"], 10, 0)
    capsys.readouterr()
    assert margins_folder.margins(**case)["rows"] == 302
    said = capsys.readouterr().err
    for name in ("val/1.parquet", "r/1.parquet", "certificates/1.json", "val.density.parquet"):
        assert f"{name} was removed: it is no part of the pool" in said
    assert "val/extra.parquet is no file of this run; it was left alone" in said
    found = contents(case["out"])
    margins_folder.margins(**case | {"out": tmp_path / "fresh"})
    assert {n: b for n, b in found.items() if n not in own} == contents(tmp_path / "fresh")
    assert all(found[name] == b"mine" for name in own)
    (case["out"] / "val/extra.parquet").unlink()
    margins_folder.verify(case["out"], 10, 0)


def test_a_shard_that_left_after_a_kill(case: dict[str, Any], tmp_path: Path) -> None:
    """Without a manifest its certificate says whose the tables are."""
    margins_folder.margins(**case)
    (case["out"] / "manifest.json").unlink()
    for path in shard_paths(case["pool"], "1"):
        path.unlink()
    margins_folder.margins(**case)
    margins_folder.margins(**case | {"out": tmp_path / "fresh"})
    assert contents(case["out"]) == contents(tmp_path / "fresh")


def test_neighbours_stay_while_the_pool_does(case: dict[str, Any]) -> None:
    margins_folder.margins(**case, **NEAR)
    before = contents(case["out"])
    margins_folder.margins(**case)
    assert contents(case["out"]) == before
    margins_folder.margins(**case, k=3)
    assert not (case["out"] / "val.density.parquet").exists()
    assert read_json(case["out"] / "manifest.json")["neighbours"] == {"grid": [], "k": 3}


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda data: None,
    "empty": lambda data: b"",
    "cut": lambda data: data[:-7],
    "longer": lambda data: data + b"x",
    "flip": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1])
    + data[len(data) // 2 + 1 :],
    "head": lambda data: bytes([data[0] ^ 16]) + data[1:],
    "zeros": lambda data: bytes(len(data)),
    "deep": lambda data: b"[" * 100_000,
}  # fmt: skip
FILES = ["val/1.parquet", "thresholds/r.parquet", "thresholds/val.json", "certificates/10.json",
         "run.json", "manifest.json", "val.neighbours.parquet", "r.density.parquet"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_files_are_found_by_verify_and_made_again(
    whole: Path, tmp_path: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = copy_of(whole, tmp_path)
    path, before = case["out"] / name, contents(case["out"])
    damaged = DAMAGES[how](path.read_bytes())
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    with pytest.raises(ClipshiftError, match=name.replace(".", r"\.")):
        margins_folder.verify(case["out"], 10, 0)
    capsys.readouterr()
    margins_folder.margins(**case)
    said = capsys.readouterr().err
    if how == "gone" and name in ("certificates/10.json", "run.json", "manifest.json"):
        assert name not in said  # as a kill leaves it
    else:
        assert f"{path} is damaged" in said or f"{path.with_suffix('.parquet')} is damaged" in said
        assert name == "manifest.json" or "1 damaged files were made again" in said
    if name == "manifest.json":  # it was what knew of the neighbours
        margins_folder.margins(**case, **NEAR)
    assert contents(case["out"]) == before
    margins_folder.verify(case["out"], 10, 0)


def test_a_folder_in_the_place_of_a_table(whole: Path, tmp_path: Path) -> None:
    case = copy_of(whole, tmp_path)
    (case["out"] / "val/1.parquet").unlink()
    (case["out"] / "val/1.parquet").mkdir()
    with pytest.raises(ClipshiftError, match=r"val/1\.parquet is a folder, not a file"):
        margins_folder.margins(**case)


def test_swapped_files_of_one_run(whole: Path, tmp_path: Path) -> None:
    """Each is whole, but at the place of another one."""
    case = copy_of(whole, tmp_path)
    before = contents(case["out"])
    for one, other in (("val/1.parquet", "val/10.parquet"), ("val/1.parquet", "r/1.parquet"),
                       ("certificates/0.json", "certificates/1.json"),
                       ("thresholds/val.json", "manifest.json"),
                       ("run.json", "certificates/0.json")):  # fmt: skip
        shutil.copy(case["out"] / other, case["out"] / one)
        with pytest.raises(ClipshiftError, match=one):
            margins_folder.verify(case["out"], 10, 0)
        margins_folder.margins(**case)
        assert contents(case["out"]) == before


def test_files_of_others_are_not_overwritten(case: dict[str, Any]) -> None:
    path = case["out"] / "val/0.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(ClipshiftError, match=r"no `clipshift margins` wrote \(.*val/0\.parquet"):
        margins_folder.margins(**case)
    assert path.read_text() == "mine"


def test_a_grid_that_does_not_ascend_is_refused(case: dict[str, Any]) -> None:
    for grid in ([0.9, 0.5], [0.5, 0.5], [float("nan")], [0.1, float("inf")]):
        with pytest.raises(ClipshiftError, match="must ascend"):
            margins_folder.margins(**case, grid=grid)
    assert not case["out"].exists() and len(SHARDS) == 3


def test_more_neighbours_than_points_are_the_points(case: dict[str, Any]) -> None:
    """Ranks are numbers of 16 bits; what is beyond them is refused before the work."""
    with pytest.raises(ClipshiftError, match=r"32768 nearest points .* at most 32767"):
        margins_folder.margins(**case, k=32768)
    assert not case["out"].exists()
    margins_folder.margins(**case, k=32767)
    table = next(case["out"].glob("**/*neighbours.parquet"))
    ranks = pq.read_table(table)["rank"].to_pylist()
    assert sorted(set(ranks)) == list(range(453))
    margins_folder.verify(case["out"], 100, 0)


def test_other_options_of_reading_are_refused_before_a_copy_is_made_anew(tmp_path: Path) -> None:
    for name, n, seed in (("pool", 50, 1), ("val", 9, 2), ("ref", 20, 3)):
        np.savez(tmp_path / f"{name}.npz", vectors=clip_like(n, seed),
                 keys=[f"{name}{i}" for i in range(n)])  # fmt: skip
    tests = {"val": tmp_path / "val.npz"}
    sides = tmp_path / "pool.npz", tests, tmp_path / "ref.npz", tmp_path / "out"
    margins_folder.margins(*sides)
    before = contents(tmp_path / "out")
    with pytest.raises(ClipshiftError, match=r"other inputs \(--normalise differ\)"):
        margins_folder.margins(*sides, normalise=True)
    assert contents(tmp_path / "out") == before


def test_shards_are_opened_one_at_a_time(tmp_path: Path) -> None:
    """A mapped file counts as an open one, and there may be more shards than open files."""
    case = margins_case.inputs(tmp_path)
    for i in range(60):
        write(case["pool"], str(100 + i), clip_like(2, i))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    now = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (now + 30, hard))
    try:
        tests = {"val": margins.Tests.of(read_all(case["tests"]["val"]), None)}
        shards = list_shards(case["pool"])
        assert len(shards) == 63
        assert margins.prepare(case["pool"], shards, tests, "cpu").kind == "none"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "words", [["margins", "--k", "-1"], ["verify", "--sample", "0"], ["verify", "--seed", "-1"]]
)
def test_numbers_out_of_range(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["clipshift", words[0], ".", *words[1:]])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "than or equal to" in capsys.readouterr().err
