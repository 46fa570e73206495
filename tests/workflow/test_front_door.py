"""However the workflow is started: the right code, the right triggers, answers to wrong targets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.runner import ROOT, TEST_CONFIG, changed_config, environment, planned, snakemake

# The cheapest files there are: no job comes before theirs.
TARGET = "results/sets/test_val/zeroshot_classification_templates.txt"
OTHER = "results/sets/test_sketch/zeroshot_classification_templates.txt"
MODULE = """
configfile: "{config}"
onstart: print("begun by the user")
module clipshift:
    snakefile: "{snakefile}"
    config: config
    {more}
use rule * from clipshift{names}
rule mine:
    input: "{target}"
    output: "results/eval/mine.txt"
    shell: "cp {{input}} {{output}}"
"""


def start(folder: Path, *words: str, program: str = "snakemake", **env: str) -> tuple[int, str]:
    """A program of this environment in a folder: its status and both streams."""
    module = {"clipshift": "clipshift.apps.cli"}.get(program, program)
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=folder, env=environment() | env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def checkout(place: Path) -> Path:
    """A copy of this checkout."""
    for name in ("workflow", "config", "profiles"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", place)
    return place


def as_module(folder: Path, more: str = "", names: str = "", source: Path = ROOT) -> Path:
    snakefile = source / "Snakefile"
    (folder / "Snakefile").write_text(
        MODULE.format(
            config=TEST_CONFIG, snakefile=snakefile, more=more, names=names, target=TARGET
        )
    )
    return folder


ANSWERS = {
    "results/eval/tset_full.json": "no split 'tset_full'; did you mean 'test_full'?",
    "results/eval/tset_full-nano-s0.json": "no evaluation 'tset_full-nano-s0'; did you mean "
    "'test_full-nano-s0'?",
    "results/models/test_full-nnao-s0/model.pt": "no model 'nnao'; did you mean 'nano'?",
    "results/models/test_full-nano-sx/model.pt": "no seed 'x'; there is 0",
    "results/models/test_full-nano-s0/model.pth": "nothing makes it; did you mean "
    "results/models/test_full-nano-s0/model.pt?",
    "results/sets/test_sketh/samples.parquet": "no test set 'test_sketh'; did you mean "
    "'test_sketch'?",
    "results/pools/test_pol/00000.tar": "no pool 'test_pol'; did you mean 'test_pool'?",
    "results/pools/test_pool/00009.tar": "no shard '00009'; they are 00000 to 00002",
    "results/sources/test_colour/samples.tar": "no source 'test_colour'; did you mean "
    "'test_color'?",
    "results/packages/openmoij": "no package 'openmoij'; did you mean 'openmoji'?",
    "results/embeddings/lite_64/test_pool/img_emb/img_emb_00000.npy": "no encoder 'lite_64'; did "
    "you mean 'lite0_64'?",
    "results/figures/similarity_gap_test_sest.svg": "no figure 'test_sest'; did you mean "
    "'test_sets'?",
    "results/figures/similarity_gpa_test_sets.svg": "no kind 'similarity_gpa'; did you mean "
    "'similarity_gap'?",
    "results/margins/test_sketch/lite0_64/test_pol/00001.parquet": "no encoder/data set/shard "
    "'lite0_64/test_pol/00001'; did you mean 'lite0_64/test_pool/00001'?",
    "results/dedup/test_pool/lite0_64/dropped/00007.parquet": "no group '00007'; they are 00000 "
    "to 00001",
    "results/evl/test_full.json": "nothing makes it; did you mean results/eval/test_full.json?",
    "report.html": "nothing makes it; did you mean results/report.html?",
    "xyz/none": "nothing makes it",
}


def test_misspelt_targets_are_answered_with_the_nearest(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--dry-run", "--", *ANSWERS, "effective_robustnes", check=False)
    said = done.stdout.partition("clipshift: error: ")[2].splitlines()
    expected = [f"{target}: {answer}" for target, answer in ANSWERS.items()]
    expected.append("no rule 'effective_robustnes'; did you mean 'effective_robustness'?")
    assert done.returncode == 1
    assert sorted(said) == sorted(expected)


def test_a_misspelt_rule_of_an_option_is_no_silent_nothing(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--dry-run", "--omit-from", "trian", "--", TARGET, check=False)
    assert done.returncode == 1
    assert "no rule 'trian'; did you mean 'train'?" in done.stdout


def test_right_targets_in_any_spelling(tmp_path: Path) -> None:
    """A path with dots, a log, a seed that the study does not list."""
    targets = [f"./results/../{TARGET}", "results/logs/splits/test_full.log"]
    targets.append("results/models/test_full-nano-s7/model.pt")
    assert {"set_prompts": 1, "split": 1, "train": 1}.items() <= planned(
        tmp_path, "--", *targets
    ).items()  # fmt: skip


def test_a_reworded_shell_line_runs_nothing_again_however_it_is_started(tmp_path: Path) -> None:
    source = checkout(tmp_path / "source")
    own = as_module(tmp_path, source=source)
    words = ["--cores", "1", "--configfile", str(TEST_CONFIG)]
    direct = ["--snakefile", str(source / "Snakefile"), *words]
    code, said = start(own, *direct, "--", TARGET)
    assert code == 0, said
    step = source / "workflow/clipshift/core/step.py"
    step.write_text(step.read_text().replace('"python -m clip', '"python -u -m clip'))
    for start_words in (
        [*direct, "--workflow-profile", "none"],
        [*direct, "--profile", str(source / "profiles/local")],
        words,  # the module
    ):
        code, said = start(own, *start_words, "--dry-run", "--", TARGET)
        assert code == 0 and "Nothing to be done" in said, said
    # Where somebody asks for it, it is done.
    code, said = start(own, *direct, "--rerun-triggers", "code", "--dry-run", "--", TARGET)
    assert code == 0 and "set_prompts" in said, said


@pytest.mark.parametrize("names", ["", " as cs_*"])
def test_as_a_module(tmp_path: Path, names: str) -> None:
    folder = as_module(tmp_path, names=names)
    code, said = start(folder, "--cores", "1", "--", "results/eval/mine.txt", PYTHONPATH="")
    assert code == 0, said
    assert "begun by the user" in said
    assert (folder / "results/eval/mine.txt").read_bytes() == (folder / TARGET).read_bytes()
    # Of clipshift's own `onstart` and `onsuccess`.
    assert (folder / "results/studies/test.json").is_file()
    assert json.loads((folder / ".snakemake/clipshift/last_run.json").read_text())["ok"]
    code, said = start(folder, "--dry-run", "--", "results/eval/tset_full.json")
    assert code == 1 and "no split 'tset_full'; did you mean 'test_full'?" in said
    code, said = start(folder, "--dry-run", "--quiet", "--", "results/eval/test_full.json")
    assert code == 0, said


@pytest.mark.parametrize("more", ['prefix: "sub"', 'replace_prefix: {"results/": "sub/"}'])
def test_a_module_with_a_prefix_is_refused(tmp_path: Path, more: str) -> None:
    folder = as_module(tmp_path, more)
    for target in (TARGET, f"sub/{TARGET}"):
        code, said = start(folder, "--cores", "1", "--", target)
        assert code == 1
        assert "a module of clipshift takes no prefix" in said
    assert not (folder / "results").exists() and not (folder / "sub").exists()


def test_the_slurm_profile_finds_its_study_from_any_folder(tmp_path: Path) -> None:
    profile = os.path.relpath(ROOT / "profiles/slurm", tmp_path)
    words = ["--snakefile", str(ROOT / "Snakefile"), "--profile", profile]
    code, said = start(tmp_path, *words, "--list-target-rules")
    assert code == 0 and "effective_robustness" in said, said


def test_paths_with_quotes_blanks_and_signs_of_the_shell(tmp_path: Path) -> None:
    place = tmp_path / "my study's; $(touch x) é #1"
    source = checkout(place / "check'out")
    own = place / 'o"wn & $HOME'
    own.mkdir()
    config = str(source / "config/test.yaml")
    code, said = start(
        own, "run", TARGET, "--configfile", config, program="clipshift",
        PYTHONPATH=str(source / "workflow"),
    )  # fmt: skip
    assert code == 0 and (own / TARGET).is_file(), said
    assert f"Snakefile: {source}/Snakefile" in said
    assert not [*tmp_path.rglob("x")]


# A copy with other dates -----------------------------------------------------------------------


def copied(study: Path, place: Path, with_records: bool = True) -> Path:
    """A copy whose dates run against the order in which its files were made."""
    shutil.copytree(study, place, symlinks=True)
    if not with_records:
        shutil.rmtree(place / ".snakemake")
    files = [f for f in (place / "results").rglob("*") if f.is_file() and not f.is_symlink()]
    files.sort(key=lambda f: f.stat().st_mtime_ns, reverse=True)
    for number, file in enumerate(files):
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))
    return place


@pytest.mark.parametrize("with_records", [True, False])
def test_a_copy_with_other_dates_plans_nothing(
    study: Path, tmp_path: Path, with_records: bool
) -> None:
    copy = copied(study, tmp_path / "copy", with_records)
    said = snakemake(copy, "--dry-run").stdout
    assert "All are as they were recorded" in said
    assert "Nothing to be done" in said
    assert planned(copy) == {}  # and says no more of it
    edit = changed_config(tmp_path, {"dedup.threshold": 0.9})
    assert planned(copy, config=edit)["dedup_apply"] == 2


@pytest.mark.parametrize("with_records", [True, False])
def test_changed_content_in_a_copy_is_new(study: Path, tmp_path: Path, with_records: bool) -> None:
    copy = copied(study, tmp_path / "copy", with_records)
    changed = copy / "results/splits/test_near.parquet"
    changed.write_bytes(changed.read_bytes() + b" ")
    os.utime(changed, (1_000_000_000, 1_000_000_000))  # older than all that was made of it
    said = snakemake(copy, "--dry-run").stdout
    assert "of other content, so new: results/splits/test_near.parquet" in said
    jobs = planned(copy)
    assert jobs["guard"] == 1 and jobs["train"] == 1


# clipshift run, resume, status, unlock -----------------------------------------------------------


def test_run_status_unlock_resume(tmp_path: Path) -> None:
    words = [TARGET, "--configfile", str(TEST_CONFIG), "--directory", "own", "--cores", "1"]
    code, said = start(tmp_path, "run", *words, "--", "--nocolor", program="clipshift")
    assert code == 0, said
    assert said.startswith(f"snakemake --snakefile {ROOT}/Snakefile --profile ")
    assert (tmp_path / "own" / TARGET).is_file()

    folder = tmp_path / "own"
    code, said = start(folder, "status", OTHER, program="clipshift")
    assert code == 0, said
    assert "ended well" in said and "Jobs of it: 1 of 1 done (100 %)" in said
    assert f"Missing: {OTHER}" in said
    assert "Made: all" in start(folder, "status", program="clipshift")[1]
    code, said = start(folder, "status", "results/eval/tset_full.json", program="clipshift")
    assert code == 1 and "did you mean 'test_full'?" in said and "Traceback" not in said

    # As a run that was killed leaves it.
    record = folder / ".snakemake/clipshift/last_run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"ended": None}))
    lock = folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{TARGET}\n")
    (folder / TARGET).unlink()
    said = start(folder, "status", program="clipshift")[1]
    assert "was killed" in said and "Locked by a run that was killed" in said

    # One that lives, here as far as its command line and its folder tell.
    alive = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", "x/snakemake"], cwd=folder
    )
    try:
        for verb in ("unlock", "resume"):
            code, said = start(folder, verb, program="clipshift")
            assert code == 1 and f"as process {alive.pid};" in said, said
        assert lock.exists()
    finally:
        alive.kill()
        alive.wait()
    code, said = start(tmp_path, "resume", "--directory", "own", program="clipshift")
    assert code == 0 and "unlocked" in said, said
    assert (folder / TARGET).is_file() and not lock.exists()
    assert "not locked" in start(folder, "unlock", program="clipshift")[1]
