"""What duckdb may take: a share of the job's memory, not of the machine's."""

import duckdb
import pytest

from clipshift import memory


@pytest.mark.parametrize(("given", "limit"), [("64000", "48000MB"), ("0", "8GB"), (None, "8GB")])
def test_limit(monkeypatch: pytest.MonkeyPatch, given: str | None, limit: str) -> None:
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    if given is not None:
        monkeypatch.setenv("SLURM_MEM_PER_NODE", given)
    assert memory.limit() == limit
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{memory.limit()}'")
        (found,) = db.execute("SELECT current_setting('memory_limit')").fetchall()
    assert found[0].split()[1] == "GiB"
