"""What duckdb may take, and what is said when the disk cannot hold the rest."""

import errno
import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipshift.core.database import database, limit, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.parquet import schema_of


@pytest.mark.parametrize(("given", "most"), [("64000", "48000MB"), ("0", "8GB"), (None, "8GB")])
def test_a_share_of_the_job(monkeypatch: pytest.MonkeyPatch, given: str | None, most: str) -> None:
    """Of the job's memory, not of the machine's."""
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    if given is not None:
        monkeypatch.setenv("SLURM_MEM_PER_NODE", given)
    assert limit() == most
    with database() as db:
        (found,) = db.execute("SELECT current_setting('memory_limit')").fetchall()
    assert found[0].split()[1] == "GiB"


def test_what_exceeds_memory_goes_to_a_folder_that_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with database("20MB") as db:
        db.execute("CREATE TABLE t AS SELECT hash(i) AS h FROM range(5_000_000) r(i)")
        (first,) = db.execute("SELECT h FROM t ORDER BY h OFFSET 4_999_999").fetchall()
        (last,) = db.execute("SELECT max(h) FROM t").fetchall()
        assert first == last
        assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) > 20_000_000
    assert not list(tmp_path.iterdir())


ROWS = "(SELECT hash(i) AS h FROM range(9_000_000) r(i))"


def test_a_full_disk_is_said_as_one() -> None:
    with pytest.raises(OSError, match=r"offload") as caught, database("20MB") as db:
        db.execute("SET max_temp_directory_size = '1MB'")
        db.execute(f"CREATE TABLE t AS SELECT h FROM {ROWS} ORDER BY h")
    assert caught.value.errno == errno.ENOSPC


def test_too_little_memory_names_the_remedy() -> None:
    with pytest.raises(ClipshiftError, match=r"more than 20MB .*mem_mb"), database("20MB") as db:
        db.execute(f"SELECT list(h ORDER BY h) FROM {ROWS}")


@pytest.mark.parametrize("name", ["x[1]*.parquet", "a?.parquet", "o'b.parquet", "~k=1.parquet"])
def test_any_name_is_read_and_named(tmp_path: Path, name: str) -> None:
    """What duckdb would take for a pattern, or for the end of a text."""
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "plain")
    (tmp_path / "plain").rename(tmp_path / name)
    with database() as db:
        assert db.execute(f"SELECT key FROM {parquet([tmp_path / name])}").fetchall() == [("a",)]
    (tmp_path / name).write_bytes(b"PAR1" + b"x" * 99 + b"PAR1")
    with pytest.raises(ClipshiftError, match=re.escape(f"{name}")), database() as db:
        db.execute(f"SELECT key FROM {parquet([tmp_path / name])}")


def test_a_name_that_is_no_text_is_said() -> None:
    with pytest.raises(ClipshiftError, match=r"'/a\\udcff\.parquet' is no Unicode: rename"):
        parquet([Path("/a\udcff.parquet")])
    with pytest.raises(ClipshiftError, match=r"'/a\\udcff\.parquet' is no Unicode: rename"):
        schema_of(Path("/a\udcff.parquet"))
