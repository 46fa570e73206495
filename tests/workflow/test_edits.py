"""Which jobs an edit of a finished study plans: exactly those that depend on it.

The table says it edit by edit; a job too many is as wrong as one too few. `all` is no job.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from clipshift.core.files import read_json, read_parquet
from clipshift.study.config.load import merged
from clipshift.study.layout.made import VARIABLE
from tests.workflow.edits import ADDED, TEST, Edit, plan, renamed
from tests.workflow.runner import (
    WHOLE,
    changed_config,
    command,
    digests,
    environment,
    planned,
    snakemake,
)

BASE = merged(*WHOLE)
Jobs = dict[str, int]

# What a test set costs beside its own images: logits and reports of the 13 evaluations, and what
# lists all sets.
EVALUATIONS = {"evaluate": 18, "evaluate_and_export": 8}
REPORTS = EVALUATIONS | {"accuracy_table": 1, "causes_runs": 1, "report_page": 1}
A_SET = REPORTS | {
    "test_set": 1, "set_prompts": 1, "set_export": 1, "set_answers": 1, "embed": 1, "logits": 13,
    "domain_labels": 1, "domain_score": 2, "domain_decisions": 1, "domain_composition": 1,
    "table": 1,
}  # fmt: skip
# Everything that is drawn from accuracies.
DRAWN = {"accuracy_vs_similarity": 1, "contrasts_table": 1, "table": 1}
# From a changed pool, or from changed duplicates in it, on.
ALL_SPLITS = REPORTS | DRAWN | {
    "split": 9, "guard": 9, "split_samples": 9, "neighbours": 5, "chosen": 4, "train": 8,
    "train_captions": 1, "train_vision": 2, "logits": 26,
}  # fmt: skip
# One split with its model, and what names it beside the tables.
A_SPLIT = {
    "split": 1, "guard": 1, "split_samples": 1, "train": 1, "logits": 2, "evaluate": 1,
    "evaluate_and_export": 1, "accuracy_table": 1, "report_page": 1,
}  # fmt: skip
BY_TEXT = DRAWN | {
    "set_prompts": 2, "set_export": 2, "logits": 20, "evaluate": 12, "evaluate_and_export": 8,
    "figure": 6, "accuracy_table": 1, "causes_runs": 1, "report_page": 1,
}  # fmt: skip
ALL_TRAININGS = REPORTS | DRAWN | {
    "train": 8, "train_captions": 1, "train_vision": 2, "logits": 26, "figure": 6,
}  # fmt: skip

PLANNED: dict[str, Jobs] = {
    "a test set that overlaps the pool": A_SET,
    "a part of a test set under another name": A_SET,
    "a test set of a new source and class": A_SET | {"source": 1, "source_samples": 1},
    "a threshold of the de-duplication": ALL_SPLITS
    | {"dedup_apply": 2, "dedup_record": 1, "figure": 10},
    "a tolerance": A_SPLIT | {"neighbours": 2, "figure": 3, "table": 1},
    "a recipe": A_SPLIT | {"figure": 2, "contrasts_table": 1},
    "a split": A_SPLIT | {"logits": 1},
    "a seed": DRAWN
    | {"train": 8, "logits": 8, "evaluate": 8, "evaluate_and_export": 8, "figure": 6}
    | {"accuracy_table": 1, "report_page": 1},
    "a seed of one split": {
        "train": 1, "logits": 1, "evaluate": 1, "evaluate_and_export": 1, "figure": 3,
        "contrasts_table": 1, "accuracy_table": 1, "report_page": 1,
    },
    # Of the model that the controlled ones share.
    "a learning rate": ALL_TRAININGS,
    "a prompt": BY_TEXT,
    "a class word": BY_TEXT,
    "a protocol": {
        "logits": 4, "evaluate": 4, "causes_runs": 1, "report_page": 1,
    },
    "the least images a class of a clean set": {"clean_set": 1, "figure": 1, "report_page": 1},
    "the precision of the detectors": {
        "domain_points": 2, "domain_decisions": 6, "clean_set": 2, "domain_composition": 1,
        "table": 1, "figure": 2, "split": 2, "guard": 2, "split_samples": 2, "train": 2,
        "logits": 4, "evaluate": 2, "evaluate_and_export": 2, "accuracy_table": 1, "report_page": 1,
    },
    "an option of a figure": {"figure": 1, "report_page": 1},
    # Not of the corpus of images alone, and what is trained on it.
    "a caption field": {
        "source_captions": 1, "causes_labels": 1, "corpus": 6, "chosen": 3, "train_captions": 1,
        "train_vision": 1, "logits": 10, "evaluate": 10, "causes_runs": 1,
        "report_page": 1,
    },
    "a corpus": {
        "corpus": 3, "chosen": 1, "train_captions": 1, "logits": 4, "evaluate": 4,
        "causes_runs": 1, "report_page": 1,
    },
    "what trainings do with test images": ALL_TRAININGS | {"chosen": 4},
    # The test sets are not drawn again, nor embedded.
    "a source in the pool": ALL_SPLITS
    | {"source": 1, "source_samples": 1, "source_captions": 1, "pool_shard": 3, "pool_manifest": 1}
    | {"embed": 3, "margins": 6, "dedup_fit": 1, "dedup_assign": 3, "dedup_score": 2}
    | {"dedup_apply": 2, "dedup_check": 1, "dedup_record": 1, "causes_labels": 1, "corpus": 9}
    | {"domain_labels": 1, "domain_fit": 2, "domain_score": 12, "domain_points": 2}
    | {"domain_decisions": 6, "domain_composition": 1, "table": 2, "clean_set": 2}
    | {"figure": 11},
}  # fmt: skip


@pytest.mark.parametrize("edit", TEST, ids=lambda edit: edit.what)
def test_an_edit_plans_what_depends_on_it(whole: Path, edit: Edit) -> None:
    """A file that is touched, or an intermediate one that is lost, plans nothing."""
    jobs = plan(whole, edit, BASE)
    jobs.pop("all", None)
    assert jobs == PLANNED.get(edit.what, {})
    assert (edit.what in PLANNED) == (edit.files is None)


@pytest.fixture(scope="module")
def copy(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished study that a test may change."""
    folder = tmp_path_factory.mktemp("edited") / "copy"
    shutil.copytree(whole, folder, symlinks=True)
    return folder


TARGETS = ("results/eval/test_full-nano-s0.json", "results/eval/test_near-nano-s0.json")
OVERLAPPING = {"take": [{"source": "test_color", "classed": True}]}


@pytest.fixture(scope="module")
def added(copy: Path) -> Path:
    """The study with a test set whose images are in the pool, evaluated by two runs."""
    kept = digests(copy, "results/models/*/model.pt", "results/guard/*", "results/logits/*/*")
    config = changed_config(copy, {f"sets.{ADDED}": OVERLAPPING}, *WHOLE)
    jobs = planned(copy, "--", *TARGETS, config=config)
    own = {"test_set": 1, "set_prompts": 1, "logits": 2, "evaluate_and_export": 2}
    assert jobs == own
    snakemake(copy, "--", *TARGETS, config=config)
    again = digests(copy, "results/models/*/model.pt", "results/guard/*", "results/logits/*/*")
    assert {path: again[path] for path in kept} == kept
    return config


def test_an_evaluation_says_what_was_trained_on(copy: Path, added: Path) -> None:
    table = read_parquet(copy / f"results/sets/{ADDED}/samples.parquet", ["key", "sha256"])
    split = read_parquet(copy / "results/splits/test_near.parquet", ["sha256", "kept"])
    trained = set(split.filter(split["kept"])["sha256"].to_pylist())
    seen = [k for k, s in zip(*table.to_pydict().values(), strict=True) if s in trained]
    result = read_json(copy / TARGETS[1])
    assert 0 < len(seen) < len(table)
    said = result["sets"][ADDED]["trained_on"]
    assert said["images"] == len(seen)
    # All of them in the split that keeps the whole pool.
    whole_pool = read_json(copy / TARGETS[0])["sets"][ADDED]
    assert whole_pool["trained_on"]["without"] is None
    assert whole_pool["trained_on"]["images"] == whole_pool["n"]
    assert said["without"]["n"] == result["sets"][ADDED]["n"] - len(seen)
    assert not [name for name, e in result["sets"].items() if "trained_on" in e and name != ADDED]
    # The command that it names, for one split.
    words = said["again"].removeprefix("snakemake ").split()
    assert words[-1] == "results/eval/test_near.json"
    jobs = planned(copy, *words, config=added)
    assert jobs == {"guard": 1, "train": 1, "logits": 3, "evaluate": 1}


def test_a_set_that_goes_or_gets_another_name(copy: Path, added: Path) -> None:
    raw = merged(added)
    assert planned(copy, "--", *TARGETS, config=added) == {}
    back = plan(copy, Edit("gone", lambda r: r["sets"].pop(ADDED)), raw, "--", *TARGETS)
    assert back == {"evaluate_and_export": 2}
    named = plan(copy, Edit("renamed", renamed), raw, "--", *TARGETS)
    assert named == {"test_set": 1, "set_prompts": 1, "logits": 2, "evaluate_and_export": 2}


def test_a_killed_guard_trains_nothing_again(copy: Path) -> None:
    """Killed when its output was deleted and not there again."""
    config = changed_config(copy, {}, *WHOLE)
    list_of_split = copy / "results/guard/test_near.parquet"
    words = ("--forcerun", "guard", "--", "results/guard/test_near.parquet")
    process = subprocess.Popen(
        command(copy, *words, config=config), env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while list_of_split.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    snakemake(copy, "--unlock", config=config)
    assert not list_of_split.exists()
    jobs = planned(copy, "--", "results/tables/accuracy.csv", config=config)
    assert jobs.keys() <= {"evaluate", "accuracy_table"}
    # Nor does a test set that comes at this very moment.
    config = changed_config(copy, {"sets.another": OVERLAPPING}, *WHOLE)
    jobs = planned(copy, "--", "results/tables/accuracy.csv", config=config)
    own = {"test_set": 1, "set_prompts": 1, "logits": 8, "evaluate": 8, "accuracy_table": 1}
    assert jobs == own


def test_another_study_of_the_same_names_and_back(copy: Path) -> None:
    more = {"study": "other", "splits.more": {"recipe": "rand", "keep": 0.25, "seeds": []}}
    other, own = copy / "other", copy / "own"
    other.mkdir()
    own.mkdir()
    config = changed_config(other, more, *WHOLE)
    target = "results/splits/more.parquet"
    assert planned(copy, "--", target, config=config) == {"split": 1}
    snakemake(copy, "--", target, config=config)
    back = changed_config(own, {}, *WHOLE)
    assert planned(copy, "--", "results/tables/causes_runs.csv", config=back) == {}


def test_a_job_of_a_cluster_sees_the_groups_of_its_run(whole: Path, tmp_path: Path) -> None:
    """It parses again, when a file of its group may be there already, or its half."""
    copy, name = tmp_path / "copy", "test_far-nano-s0"
    shutil.copytree(whole, copy, symlinks=True)
    pattern = f"results/logits/*/{name}.*"
    before = digests(copy, pattern)
    rows = [path for path in before if path.endswith(".parquet")]
    for path in before:
        (copy / path).unlink()
    (copy / rows[0]).write_bytes(b"half")
    answers = tmp_path / "made.json"
    answers.write_text(json.dumps(dict.fromkeys(rows, False)))
    job = ("--mode", "remote", "--target-jobs", f"logits_1:evaluation={name}", "--force")
    words = (*job, "--allowed-rules", "logits_1", "--nolock", "--ignore-incomplete")
    done = subprocess.run(
        command(copy, *words, config=changed_config(copy, {}, *WHOLE)),
        env=environment() | {VARIABLE: str(answers)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert digests(copy, pattern) == before


def test_the_command_of_an_evaluation_trains_without_the_test_images(
    copy: Path, added: Path
) -> None:
    own = copy / "again"
    own.mkdir()
    config = changed_config(own, {f"sets.{ADDED}": OVERLAPPING}, *WHOLE)
    record = copy / "results/models/test_near-nano-s0/record.json"
    before, said = read_json(record), read_json(copy / TARGETS[1])["sets"][ADDED]["trained_on"]
    snakemake(copy, *said["again"].removeprefix("snakemake ").split(), config=config)
    after = read_json(record)
    guard = read_parquet(copy / "results/guard/test_near.parquet", ["key", "test_set"])
    images = set(guard.filter(pc.equal(guard["test_set"], ADDED))["key"].to_pylist())
    assert images and not images & set(before["left_out"])
    assert images <= set(after["left_out"])
    assert after["split_samples"] == before["split_samples"] - len(images)
    joined = read_json(copy / "results/eval/test_near.json")
    assert "trained_on" not in joined["sets"][ADDED]
