"""A study that is killed again and again ends as an undisturbed one; fifty: `make test-kills`.

Here the group, Snakemake alone, a job and a process of a job are killed, once each.
"""

from pathlib import Path

from tests.workflow.kills import disturb
from tests.workflow.runner import contract


def test_killed_runs_leave_nothing_half_written(study: Path, tmp_path: Path) -> None:
    target = "results/eval/test_near.json"
    killed = disturb(tmp_path / "killed", contract(study), 4, seed=7, targets=[target])
    assert killed.total() == 4 and killed["group"] and killed["snakemake"]
    assert (tmp_path / "killed" / target).exists()
