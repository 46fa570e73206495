"""Options of `clipshift run`, and what Snakemake's log says of a run."""

from pathlib import Path

import pytest

from clipshift.apps.runs import command
from clipshift.apps.runs.status import running
from clipshift.core.errors import ClipshiftError
from clipshift.core.job_logs import ERROR
from clipshift.core.step import ROOT
from clipshift.study.planning.preview import refusal


def test_options(tmp_path: Path) -> None:
    config = tmp_path / "my study.yaml"
    config.touch()
    words = command.options([config], "local", tmp_path / "own", None, ["--forcerun", "guard"])
    begin = ["--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles/local")]
    assert words == [
        *begin, "--configfile", str(config), "--directory", str(tmp_path / "own"),
        "--cores", "all", "--forcerun", "guard",
    ]  # fmt: skip


def test_a_cluster_has_its_own_number_of_cores() -> None:
    assert "--cores" not in command.options(profile="slurm")
    assert command.options(profile="slurm", cores="3")[-2:] == ["--cores", "3"]


def test_a_profile_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("keep-going: true\n")
    assert str(tmp_path) in command.options(profile=str(tmp_path))
    with pytest.raises(ClipshiftError, match="no profile 'slrum': there is local, slurm"):
        command.options(profile="slrum")


def test_a_configuration_that_is_not_there() -> None:
    with pytest.raises(ClipshiftError, match=r"absent\.yaml: no such file"):
        command.options([Path("absent.yaml")])


LOG = """
rule source:
    output: a
    log: results/logs/a.log
    jobid: 1
    resources: tmpdir=/tmp
localrule fetch:
    log: results/logs/f.log
    jobid: 2
rule train:
    log: results/logs/t.log
    jobid: 3
Finished jobid: 2 (Rule: fetch)
Error in rule train:
    message: None
    jobid: 3
    log: results/logs/t.log (check log file(s) for error details)
"""


def test_jobs_that_began_and_did_not_end() -> None:
    assert list(running(LOG)) == [("source", "results/logs/a.log")]
    again = LOG + "rule train:\n    log: results/logs/t.log\n    jobid: 3\n"
    assert list(running(again))[1:] == [("train", "results/logs/t.log")]


def test_a_refusal_is_our_sentence_or_the_end_of_the_output() -> None:
    assert refusal(f"header\n{ERROR}no split 'x'\n") == "no split 'x'"
    assert refusal("header\nMissingRule") == "the dry run failed:\nheader\nMissingRule"
