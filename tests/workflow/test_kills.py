"""A study that is killed again and again ends as an undisturbed one; fifty: `make test-kills`.

Here the group, Snakemake alone and a job are killed once each.
"""

from pathlib import Path

from tests.workflow.kills import disturb
from tests.workflow.runner import contract


def test_killed_runs_leave_nothing_half_written(study: Path, tmp_path: Path) -> None:
    target = "results/eval/test_near.json"
    assert disturb(tmp_path / "killed", contract(study), 3, seed=7, targets=[target]) == 3
    assert (tmp_path / "killed" / target).exists()
