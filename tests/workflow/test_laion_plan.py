"""The LAION study: its literal command, its jobs, and its preview; no data is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clipshift.core.brace_ranges import compact
from clipshift.study.config.load import load
from clipshift.study.layout.evaluation import Evaluations, parse
from clipshift.study.layout.reading import Reading
from clipshift.study.layout.study import Layout
from tests.workflow.runner import ROOT, changed_config, environment, planned, snakemake

CONFIG = ROOT / "config/laion400m.yaml"
TARGET = "results/eval/pruned_100M.json"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Output of `snakemake --profile slurm -n TARGET` from the root, as the README says."""
    folder = tmp_path_factory.mktemp("plan")
    words = ["--profile", "slurm", "-n", TARGET, "--directory", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert not list(folder.glob("results/*"))
    return done.stdout + done.stderr


def test_jobs_of_the_core_set(plan: str) -> None:
    jobs = {r: int(n) for r, n in re.findall(r"^([a-z_]+?)(?:_\d+)? +(\d+)$", plan, flags=re.M)}
    expected = {
        "external_data": 1, "folder_pool": 448, "folder_set": 7, "embed": 455, "split": 22,
        "train": 1, "evaluate": 1, "dedup_assign": 448, "dedup_score": 32, "reshard": 448,
    }  # fmt: skip
    assert {rule: jobs.get(rule) for rule in expected} == expected
    assert jobs["margins"] % 448 == 0
    # What the planning of a cluster's every job can bear.
    assert jobs["total"] < 5000


def test_resources_of_the_profile(plan: str) -> None:
    train = plan.split("rule train:")[1].split("\n[", maxsplit=1)[0]
    assert "gpu=8" in train and "gpu_model=a100" in train and "runtime=10080" in train
    embed = plan.split("rule embed:")[1].split("\n[", maxsplit=1)[0]
    assert "gpu=1" in embed and "slurm_partition=a100" in embed and "mem_mb=32000" in embed


def test_command_lines_fit_the_shell() -> None:
    """A shell takes one word of at most 128 KiB, and Snakemake gives it the whole command."""
    at = Layout(load(CONFIG))
    words = [json.dumps(compact(at.pool_tables())), json.dumps(compact(at.embedded()))]
    reading = Reading(at)
    filters = (reading.filtered(split, at.cfg.model_of(split)) for split in at.cfg.trained)
    words += map(json.dumps, filters)
    words += [json.dumps(reading.splits(name)) for name in at.cfg.reshard]
    words += [json.dumps(at.margin_ranges(at.driving_sets(split))) for split in at.cfg.splits]
    words.append(" ".join(f"results/pools/laion400m/{s}.json" for s in at.shards("laion400m")))
    assert max(map(len, words)) < 32_000


def test_one_pass_over_the_pool_serves_all_trainings_of_a_group(tmp_path: Path) -> None:
    """And every training of the study reads the tars of one."""
    at = Layout(load(CONFIG))
    groups = at.cfg.reshard.values()
    assert sorted(s for group in groups for s in group.splits) == sorted(at.cfg.trained)
    mixes = at.cfg.reshard["domains_small"].splits
    models = [f"results/models/{run}/model.pt" for split in mixes for run in at.runs(split)]
    jobs = planned(tmp_path, *models, config=CONFIG)
    # And the split whose points study B labels and scores.
    expected = {"train_epochs": 15, "split": 16, "reshard": 448, "reshard_manifest": 1}
    assert {rule: jobs.get(rule) for rule in expected} == expected


def test_groups_cover_every_tar_once() -> None:
    pool = load(CONFIG).pools["laion400m"]
    ranges = [pool.group(i) for i in range(pool.shards)]
    numbers = [i for first, last in ranges for i in range(first, last + 1)]
    assert numbers == list(range(41456))
    assert {last - first for first, last in ranges} == {91, 92}


def test_the_trainings_of_the_study() -> None:
    cfg = load(CONFIG)
    by_domain = [s for s in cfg.trained if cfg.splits[s].recipe == "domains"]
    runs = {s: len(cfg.seeds_of(s)) for s in cfg.splits}
    assert (sum(runs.values()), sum(runs[s] for s in by_domain)) == (27 + 26, 26)
    assert (cfg.splits["pruned_100M"].keep, len(cfg.splits["pruned_100M"].sets)) == (10**8, 6)
    sizes = {name: (cfg.sets[name].samples, cfg.sets[name].classes) for name in cfg.test_sets}
    assert sum(n for n, _ in sizes.values()) == 166_963
    assert sizes["objectnet"] == (18_574, 113)
    # Study B is evaluated after every epoch, each split by the model of its own.
    by_epoch = Evaluations(Layout(cfg)).by_epoch()
    assert len(by_epoch) == 26 * 32
    assert {parse(name).split for name in by_epoch} == {*by_domain}
    assert len(Evaluations(Layout(cfg)).sets(by_epoch[0])) == 12


def test_preview(tmp_path: Path) -> None:
    words = ["plan", "--configfile", str(CONFIG), "--directory", str(tmp_path), "--", TARGET]
    done = subprocess.run(
        [sys.executable, "-m", "clipshift.apps.cli", *words],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^embed +455 ", done.stdout, flags=re.M)
    assert re.search(r"^total +\d,\d{3} ", done.stdout, flags=re.M)
    assert "laion400m (laion400m)" in done.stdout  # not there yet


def test_one_more_test_set_on_a_finished_study(tmp_path: Path) -> None:
    """With made-up files for all that the study makes: the pool is not read again."""
    text = snakemake(tmp_path, "--dry-run", config=CONFIG).stdout
    for names in re.findall(r"^    output: (.*)$", text, flags=re.M):
        for name in names.split(", "):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if "clip_benchmark/" in name or path.name == "epochs":
                path.mkdir()
            else:
                path.touch()
    assert planned(tmp_path, config=CONFIG) == {}
    # Without Snakemake's records no parameter is seen to change: what lists all sets is taken away.
    listing = (
        "eval/*.json",
        "tables/accuracy.csv",
        "domains/*/composition.json",
        "tables/domain_*",
        "report.html",
    )
    for file in [f for name in listing for f in tmp_path.glob(f"results/{name}")]:
        file.unlink()
    summaries = planned(tmp_path, config=CONFIG)
    added = {"folder": "imagenet-c", "classes": 1000, "samples": 50_000}
    jobs = planned(tmp_path, config=changed_config(tmp_path, {"sets.imagenet_c": added}, CONFIG))
    own = {"external_data": 1, "folder_set": 1, "set_prompts": 1, "set_export": 1}
    own |= {"embed": 2, "logits": 53}
    # Of study B, which scores every test set.
    own |= {"domain_labels": 1, "domain_score": 5, "domain_score_images": 7, "domain_decisions": 1}
    assert {rule: n - summaries.get(rule, 0) for rule, n in jobs.items()} == dict.fromkeys(
        summaries, 0
    ) | own
