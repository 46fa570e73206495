"""Several studies in one folder: what is shared, what stops a plan, and what is said of an edit."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.runner import ROOT, TEST_CONFIG, changed_config, environment, snakemake

# A file that is made in a second, of a set.
TARGET = "results/sets/test_val/zeroshot_classification_templates.txt"
EDITED = "changed since its last run here: "


def variant(folder: Path, study: str, change: dict[str, object] | None = None) -> Path:
    """The test study under a name, with some keys set to other values."""
    place = folder / "config" / study
    place.mkdir(parents=True, exist_ok=True)
    return changed_config(place, {"study": study, **(change or {})})


def said(folder: Path, config: Path, *words: str, fails: bool = False) -> str:
    """What a dry run says of the names of a study, before it says anything else."""
    done = snakemake(folder, "--dry-run", *words, config=config, check=False)
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout.split("Job stats")[0].split("Building DAG")[0]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the test study has run."""
    folder = tmp_path_factory.mktemp("ran")
    snakemake(folder, "--", TARGET)
    return folder


@pytest.fixture
def folder(ran: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(ran, tmp_path / "copy", symlinks=True)


def record(folder: Path, study: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(
        (folder / f"results/studies/{study}.json").read_text()
    )["definitions"]
    return found


def test_another_study_that_means_something_else_by_a_name_is_stopped(folder: Path) -> None:
    tuned = {"models.nano.lr": 1.0e-4, "sets.test_val.minimum_per_class": 2}
    other = variant(folder, "other", tuned)
    before = (folder / TARGET).stat().st_mtime_ns
    text = said(folder, other, "--", TARGET, fails=True)
    assert "study test: sets test_val; models nano; and what follows from them: " in text
    assert "2 splits" in text  # those that the set drives
    assert "6 runs" in text
    assert "snakemake --directory FOLDER" in text
    assert "delete its record: results/studies/test.json" in text
    snakemake(folder, "--", TARGET, config=other, check=False)
    assert (folder / TARGET).stat().st_mtime_ns == before
    assert [f.name for f in (folder / "results/studies").glob("*.json")] == ["test.json"]


def test_deleting_its_record_gives_the_names_of_a_study_away(folder: Path) -> None:
    other = variant(folder, "other", {"holdout.fraction": 0.5})
    said(folder, other, fails=True)
    (folder / "results/studies/test.json").unlink()
    assert EDITED not in said(folder, other)


def test_equal_definitions_are_shared_by_two_studies_back_and_forth(folder: Path) -> None:
    new = {"splits": {"other_full": {"recipe": "full"}}, "figures": {}, "seeds": [0, 1]}
    other = variant(folder, "other", new)
    assert "Study other" not in said(folder, other)
    done = snakemake(folder, "--", TARGET, config=other)
    assert "Nothing to be done" in done.stdout
    snakemake(folder, "--forcerun", "set_prompts", "--", TARGET, config=other)
    mine, theirs = record(folder, "test"), record(folder, "other")
    assert mine["sets"] == theirs["sets"]
    assert mine["splits"].keys() & theirs["splits"].keys() == set()
    for config in (TEST_CONFIG, other, TEST_CONFIG):
        assert EDITED not in said(folder, config)
    # What both have is nobody's alone to edit.
    edit = variant(folder, "test", {"holdout.fraction": 0.5})
    assert "study other: pools test_pool; " in said(folder, edit, fails=True)


def test_an_edit_is_said_and_made(folder: Path) -> None:
    edit = variant(folder, "test", {"evaluation.templates": ["a {c}"]})
    text = said(folder, edit)
    assert f"Study test, {EDITED}prompts test_reference, test_val, test_sketch" in text
    done = snakemake(folder, "--", TARGET, config=edit)
    assert done.stdout.count(EDITED) == 1
    assert (folder / TARGET).read_text() == "a {c}\n"
    assert EDITED not in said(folder, edit)
    assert EDITED in said(folder, TEST_CONFIG)


def test_a_part_that_comes_and_goes_is_remembered_in_silence(folder: Path) -> None:
    """As the mini study with and without its overlays."""
    less = variant(folder, "test", {"splits": {"test_full": {"recipe": "full"}}, "figures": {}})
    assert EDITED not in said(folder, less)
    snakemake(folder, "--forcerun", "set_prompts", "--", TARGET, config=less)
    assert record(folder, "test")["splits"].keys() > {"test_full", "test_near"}
    assert EDITED not in said(folder, TEST_CONFIG)
    other = variant(folder, "other", {"splits.test_near.keep": 0.3})
    assert "study test: splits test_near; " in said(folder, other, fails=True)


def test_dry_runs_and_jobs_leave_no_record(tmp_path: Path) -> None:
    said(tmp_path, TEST_CONFIG)
    assert not (tmp_path / "results").exists()
    # As Snakemake starts the jobs of a cluster.
    job = ["--mode", "remote", "--no-hooks", "--nolock", "--allowed-rules", "set_prompts"]
    snakemake(tmp_path, *job, "--", TARGET)
    assert (tmp_path / TARGET).exists()
    assert not (tmp_path / "results/studies").exists()


def test_a_job_asks_no_other_study(folder: Path) -> None:
    """The main process has asked; hundreds of jobs parse the Snakefile after it."""
    other = variant(folder, "other", {"evaluation.templates": ["a {c}"]})
    job = ["--mode", "remote", "--no-hooks", "--nolock", "--allowed-rules", "set_prompts"]
    (folder / TARGET).unlink()
    snakemake(folder, *job, "--", TARGET, config=other)
    assert [f.name for f in (folder / "results/studies").glob("*.json")] == ["test.json"]


@pytest.mark.parametrize("profile", ["profiles/local", "slurm"])
def test_a_folder_of_its_own_as_the_documents_say(tmp_path: Path, profile: str) -> None:
    """`snakemake --directory FOLDER ...` from the root, with the relative names of the README."""
    words = ["--profile", profile, "--directory", str(tmp_path / "own"), "--configfile"]
    words += ["config/mini.yaml", "config/mini-domains.yaml", "--dry-run", "--cores", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, "--", "results/domains/mini/composition.json"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "profiles/default" in done.stdout
    assert "domain_composition" in done.stdout
