"""Whole files or none, on full disks too, and counts that add up."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import (
    atomic,
    atomic_path,
    read_json,
    read_parquet,
    write_json,
    write_npy,
    write_text,
)


def test_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), atomic(path) as stream:
        stream.write(b"half of the new")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_failing_block_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "deep/er/a") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert list((tmp_path / "deep/er").iterdir()) == []


def test_new_file_replaces_the_old_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_killed_writers_part_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    code = "import sys, time, pathlib; from clipshift.core.files import atomic\n"
    code += "with atomic(pathlib.Path(sys.argv[1])): print(flush=True); time.sleep(600)"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout and writer.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 2
        writers[0].kill()
        writers[0].wait()
        write_text(path, "whole")
        assert len(list(tmp_path.iterdir())) == 2  # the new file and the living writer's part
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    write_text(path, "again")
    assert list(tmp_path.iterdir()) == [path]


def test_error_of_a_write_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="out of space") as error, atomic(tmp_path / "a.bin"):
        raise OSError(28, "out of space")
    assert error.value.filename == str(tmp_path / "a.bin")


def test_json_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": {"d": "ä", "c": None}})
    write_json(tmp_path / "b.json", {"a": {"c": None, "d": "ä"}, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json")["a"]["d"] == "ä"


@pytest.mark.parametrize("data", [b"", b'{"a": ', b"\xff\xfe\x00"])
def test_broken_json_names_the_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ClipshiftError, match=r"a\.json is not JSON.*delete it"):
        read_json(tmp_path / "a.json")


def test_npy_is_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle"):
        write_npy(tmp_path / "a.npy", np.array([object()]))
    assert not list(tmp_path.iterdir())


WRITERS = {
    "tar": """
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
import os
samples = (Sample(f"k{i}", {"jpg": os.urandom(20_000)}) for i in range(40))
write = lambda out: write_tar(out, samples)
""",
    "parquet": """
from clipshift.core.files import write_parquet
import os, pyarrow as pa
write = lambda out: write_parquet(out, pa.table({"a": [os.urandom(400_000) for _ in range(2)]}))
""",
    "npy": """
from clipshift.core.files import write_npy
import numpy as np
write = lambda out: write_npy(out, np.random.default_rng(0).random(100_000))
""",
    "split": """
from clipshift.splits import split
from clipshift.splits.recipes.full import Full
from clipshift.splits.recipes import Margins
from pathlib import Path
pool, dedup = Path(sys.argv[2]), Path(sys.argv[3])
scores = split.Scores([pool], [dedup], Margins({}, {}), [], Margins({}, {}))
write = lambda out: split.make(Full(recipe="full"), scores, out)
""",
}
PROGRAM = """
import sys
from pathlib import Path
from clipshift.core.errors import run
{writer}
run(lambda: write(Path(sys.argv[1])))
"""


def limit_file_size() -> None:
    """Make every file of the process end at 300,000 bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


@pytest.mark.parametrize("kind", list(WRITERS))
def test_full_disk_is_explained_and_leaves_nothing_half(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa

    from clipshift.core.files import write_parquet

    rng = np.random.default_rng(0)
    keys = pa.array([rng.bytes(16).hex() for _ in range(20_000)])
    write_parquet(
        tmp_path / "in/pool.parquet", pa.table(dict.fromkeys(("key", "url_hash", "sha256"), keys))
    )
    write_parquet(tmp_path / "in/dedup.parquet", pa.table({"image_path": keys}))
    out = tmp_path / "out" / f"result.{'parquet' if kind == 'split' else kind}"
    inputs = [str(tmp_path / "in" / f"{n}.parquet") for n in ("pool", "dedup")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(writer=WRITERS[kind]), str(out), *inputs],
        check=False, capture_output=True, text=True, preexec_fn=limit_file_size,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "clipshift: error: " in done.stderr
    assert kind == "split" or out.name in done.stderr
    assert "Free some space" in done.stderr
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_defect_of_ours_keeps_its_traceback() -> None:
    code = "from clipshift.core.errors import run\nrun(lambda: 1 / 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("open('/proc/x/y', 'w')", "/proc/x/y: No such file or directory; is it there"),
        ("write_text(Path('/dev/null/x/a'), '')", "/dev/null/x: Not a directory; a part of this"),
        ("write_text(Path('/dev/null/a'), '')", "/dev/null: File exists; choose another place"),
        ("open('/tmp')", "/tmp: Is a directory; it is a folder"),
        ("b'\\xff'.decode()", "a text is not UTF-8"),
        ("'a\\udcff.json'.encode()", r"udcff.json' is no Unicode"),
        ("json.loads('[' * 10**6)", "nested too deeply"),
        ("bytearray(1 << 60)", "there is not enough memory"),
        ("(d := tempfile.mkdtemp(), os.chdir(d), os.rmdir(d), Path().resolve())", "`cd` to an"),
    ],
)
def test_errors_of_files_and_of_the_machine_are_paragraphs(raised: str, message: str) -> None:
    code = "import json, os, tempfile; from pathlib import Path\n"
    code += "from clipshift.core.errors import run\n"
    code += f"from clipshift.core.files import write_text\nrun(lambda: {raised})"
    for level, traceback in (("INFO", False), ("DEBUG", True)):
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True,
            env=os.environ | {"CLIPSHIFT_LOG": level},
        )  # fmt: skip
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) is traceback
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("clipshift: error")]
        assert message in said


def test_names_that_are_no_text_are_printed() -> None:
    code = "from clipshift.core.errors import run; run(lambda: print('a\\udcff'))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout == b"a\\udcff\n"


@pytest.mark.parametrize(("mask", "mode"), [("077", 0o600), ("002", 0o664), ("022", 0o644)])
def test_files_follow_the_umask(tmp_path: Path, mask: str, mode: int) -> None:
    code = "import sys; from pathlib import Path; from clipshift.core.files import write_text\n"
    code += "write_text(Path(sys.argv[1]), 'x')"
    line = f'umask {mask}; exec "$0" -c "$1" "$2"'
    path = tmp_path / "a.txt"
    subprocess.run(["sh", "-c", line, sys.executable, code, str(path)], check=True)
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 5000, b'"\xff"', b"{", b""])
def test_json_that_is_none_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ClipshiftError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


def test_pipes_are_neither_read_nor_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    for work in (lambda: read_json(path), lambda: read_parquet(path), lambda: write_json(path, 1)):
        with pytest.raises(ClipshiftError, match=r"a\.json is a pipe"):
            work()
    assert path.is_fifo() and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_neither_written_nor_read(tmp_path: Path, word: str) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": [float(word)]})
    (tmp_path / "a.json").write_text(f'{{"a": [{word}]}}')
    with pytest.raises(ClipshiftError, match=rf"a\.json is not JSON \({word} is no number"):
        read_json(tmp_path / "a.json")


def test_json_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a\udcff": "b\udcfe", "ä": "ü"})
    assert read_json(tmp_path / "a.json") == {"a\udcff": "b\udcfe", "ä": "ü"}
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_account_that_adds_up() -> None:
    step_counts = StepCounts("pool", "p", 10, 7)
    step_counts.rejected.update({"blank": 1, "alias": 2})
    assert StepCounts.from_json(step_counts.as_json()) == step_counts
    assert list(step_counts.as_json()["rejected"]) == ["alias", "blank"]


@pytest.mark.parametrize("went_out", [6, 8])
def test_account_that_does_not_add_up_is_refused(went_out: int) -> None:
    step_counts = StepCounts("pool", "p", 10, went_out)
    step_counts.rejected["blank"] = 3
    with pytest.raises(ClipshiftError, match=f"pool 'p' do not add up: 10 in, {went_out} out"):
        step_counts.as_json()
    entry = {"step": "pool", "name": "p", "in": 10, "out": went_out, "rejected": {"blank": 3}}
    with pytest.raises(ClipshiftError, match=f"{10 - went_out - 3} unaccounted"):
        StepCounts.from_json(entry)
