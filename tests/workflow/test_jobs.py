"""Every job of a plan gives its step what the step's function takes."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from clipshift.core.step import bind
from tests.workflow.runner import ROOT, WHOLE, changed_config, snakemake

JOB = re.compile(
    r"python -m clipshift\.core\.step (\S+) > \S+ 2>&1 <<'END_OF_JOB'\n(.*)\nEND_OF_JOB"
)
STUDIES = {
    "test": WHOLE,
    "mini": tuple(ROOT / f"config/{n}.yaml" for n in ("mini", "mini-domains", "mini-causes")),
}


@pytest.mark.parametrize("study", STUDIES)
def test_jobs_of_a_study_fit_their_steps(study: str, tmp_path: Path) -> None:
    config = changed_config(tmp_path, {}, *STUDIES[study])
    text = snakemake(tmp_path, "--dry-run", "--printshellcmds", config=config).stdout
    jobs = JOB.findall(text)
    assert 100 < len(jobs) == text.count("Shell command: python")
    for name, data in jobs:
        module, _, function = name.rpartition(".")
        bind(getattr(import_module(f"clipshift.{module}"), function), json.loads(data))
