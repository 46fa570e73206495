"""What `--profile slurm` submits, with stand-ins for Slurm's commands (tests/slurm: the real)."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.study.costs import base_rule
from tests.workflow import standin
from tests.workflow.runner import ROOT, TEST_CONFIG, changed_config, environment, planned

NAMES = {
    "account": "vision",
    "cpu_partition": "batch",
    "gpu_partition": "accel",
    "gpu_model": "h100",
    "cpus_per_gpu": 6,
    "scratch": "/tmp/clipshift-$USER",
    "submissions": "100/1s",
    "first_check": 1,
}
GPU_RULES = {"embed", "thresholds", "margins", "neighbours", "dedup_assign", "dedup_score",
             "dedup_check", "logits"}  # fmt: skip
LOCAL = {"all", "fetch", "pool_manifest", "set_prompts"}  # run where Snakemake does
GPU = {"partition": "accel", "gpus": "h100:1", "cpus-per-gpu": "6", "mem": "32000", "time": "240"}
TRAIN = {"partition": "batch", "mem": "8000", "time": "240"}  # a model without a GPU


# What was submitted, and rule -> jobs of the plan.
Replay = tuple[list[dict[str, str]], dict[str, int]]


class Slurm:
    """Stand-ins in a folder, and what they were asked."""

    def __init__(self, folder: Path, names: dict[str, object] = NAMES):
        self.folder = folder
        own = standin.place(folder)
        (folder / "cluster.yaml").write_text(yaml.safe_dump(names))
        env = environment()
        self.env = env | own | {
            "PATH": f"{folder}/bin{os.pathsep}{env['PATH']}",
            "CLIPSHIFT_CLUSTER": str(folder / "cluster.yaml"),
            "PYTHONPATH": f"{ROOT}/workflow",
            "USER": "somebody",
        }  # fmt: skip

    def snakemake(
        self, study: Path, *words: str, check: bool = True, config: Path = TEST_CONFIG
    ) -> str:
        own = ["--profile", "slurm", "--configfile", str(config), "--directory", str(study)]
        own += ["--max-status-checks-per-second", "5", "--latency-wait", "5", "--nocolor"]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *own, *words], cwd=ROOT, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def submitted(self) -> list[dict[str, str]]:
        return [parsed(entry["words"]) for entry in self.kept("submitted")]

    def kept(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(x) for x in (self.folder / f"{name}.jsonl").read_text().splitlines()]


SHORT = {"-p": "partition", "-A": "account", "-t": "time", "-D": "folder"}


def parsed(words: list[str]) -> dict[str, str]:
    """An sbatch's words as {option: value}, and the rule under `rule`."""
    options, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        name = SHORT.get(name, name.removeprefix("--"))
        takes = not sign and rest and not rest[0].startswith("-")
        options[name] = value if sign else rest.pop(0) if takes else ""
    options["rule"] = base_rule(re.sub("^rule_|_wildcards_.*", "", options["comment"]))
    return options


@pytest.fixture(scope="module")
def replayed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Everything that the whole study submits: each job finds its outputs there already.

    And what it would submit by a plan. Sets that exist are made again by a job each, whose
    benchmark is not that of the first pass.
    """
    folder = tmp_path_factory.mktemp("replay")
    run = shutil.copytree(study, folder / "run", symlinks=True)
    for table in (run / "results/margins").rglob("*.parquet"):
        part = table.relative_to(run / "results/margins").with_suffix(".tsv")
        benchmark = run / "results/benchmarks/margins" / part
        benchmark.parent.mkdir(parents=True, exist_ok=True)
        benchmark.touch()
    slurm = Slurm(folder / "slurm")
    expected = planned(run, "--forceall")
    slurm.snakemake(run, "--forceall")
    return slurm.submitted(), expected


def test_arguments_of_every_kind_of_rule(replayed: Replay) -> None:
    submitted, expected = replayed
    for job in submitted:
        assert job["account"] == "vision"
        assert job.keys() >= {"parsable", "requeue", "output", "job-name", "/dev/stdin"}
        asked = {key: job[key] for key in GPU if key in job}
        if job["rule"] in GPU_RULES:
            assert asked == GPU
        elif job["rule"] == "train":
            assert asked == TRAIN
        elif job["rule"] in ("split", "dedup_fit"):
            assert asked == {"partition": "batch", "mem": "64000", "time": "1440"}
        else:
            assert asked["partition"] == "batch" and asked.keys() == {"partition", "mem", "time"}
            assert 500 <= int(asked["mem"]) <= 3000 and 5 <= int(asked["time"]) <= 120
    rules = [job["rule"] for job in submitted]
    assert {rule: rules.count(rule) for rule in set(rules)} == {
        rule: n for rule, n in expected.items() if rule not in LOCAL
    }
    assert len({job["job-name"] for job in submitted}) == 1  # one question for all of them


def test_a_job_really_runs_and_a_failed_one_is_asked_for_more(tmp_path: Path) -> None:
    """The script that is submitted makes the file; where it fails, memory and time grow."""
    scratch = NAMES | {"scratch": f"{tmp_path}/scratch-$USER"}
    slurm, run = Slurm(tmp_path / "slurm", scratch), tmp_path / "run"
    (slurm.folder / "run").touch()
    run.mkdir()
    slurm.snakemake(run, "--", "results/sources/test_photo/samples.tar")
    assert (tmp_path / "scratch-somebody").is_dir()  # where the node's `$USER` has its files
    assert (run / "results/sources/test_photo/samples.tar").stat().st_size > 100_000
    (slurm.folder / "run").unlink()  # from here on nothing runs, and outputs are missing
    target = "results/sources/test_black/samples.tar"
    text = slurm.snakemake(run, "--latency-wait", "0", "--", target, check=False)
    assert "Job files are missing" in text or "missing" in text
    assert [(j["mem"], j["time"]) for j in slurm.submitted()[1:]] == [
        ("2000", "60"), ("4000", "120"), ("6000", "180"),
    ]  # fmt: skip


def test_jobs_of_a_killed_run_stop_the_next_one(tmp_path: Path) -> None:
    slurm, run = Slurm(tmp_path / "slurm"), tmp_path / "run"
    run.mkdir()
    log = run / ".snakemake/slurm_logs/rule_source/x/17.log"
    (slurm.folder / "leftover").write_text(f"17                  {log}\n")
    text = slurm.snakemake(run, "--", "results/sources/test_photo/samples.tar", check=False)
    assert "scancel 17" in text and "Traceback" not in text
    assert not (slurm.folder / "submitted.jsonl").exists()


def test_a_fault_in_the_names_stops_at_once(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "slurm", NAMES | {"gpu_modle": "a100"})
    text = slurm.snakemake(tmp_path / "run", "--dry-run", check=False)
    assert f"{slurm.folder}/cluster.yaml: gpu_modle" in text and "Traceback" not in text


# `CLIPSHIFT_SUBMISSIONS=1000 pytest -k scheduler` does what docs/cluster.md reports.
MANY = int(os.environ.get("CLIPSHIFT_SUBMISSIONS", "60"))


def test_many_jobs_do_not_hammer_the_scheduler(tmp_path: Path) -> None:
    """Pool shards whose files are placeholders: only when they are submitted matters here."""
    per_second, at_once = (20, 100) if MANY > 100 else (10, 25)
    rates = {"submissions": f"{per_second}/1s", "jobs": at_once, "first_check": 2}
    slurm, run = Slurm(tmp_path / "slurm", NAMES | rates), tmp_path / "run"
    config = changed_config(tmp_path, {"pools.test_pool.shards": MANY})
    outputs = [
        f"pools/test_pool/{i:05d}.{x}" for i in range(MANY) for x in ("tar", "parquet", "json")
    ]
    inputs = [
        f"sources/test_{s}/samples.{x}" for s in ("color", "black") for x in ("tar", "parquet")
    ]
    inputs += [f"sets/test_{s}/samples.parquet" for s in ("val", "sketch")]
    for file in [*inputs, *outputs]:
        (run / "results" / file).parent.mkdir(parents=True, exist_ok=True)
        (run / "results" / file).touch()
    targets = [f"results/{file}" for file in outputs[::3]]
    only = ["--rerun-triggers", "mtime", "--forcerun", "pool_shard", "--until", "pool_shard"]
    slurm.snakemake(run, *only, "--", *targets, config=config)
    times = [entry["time"] for entry in slurm.kept("submitted")]
    asked = [entry["time"] for entry in slurm.kept("asked")]
    assert len(times) == MANY
    # A start is counted a little before sbatch runs, and late ones meet the next second's.
    assert max(sum(t <= u < t + 1 for u in times) for t in times) <= 1.5 * per_second
    assert MANY / per_second - 2 < times[-1] - times[0]
    # Not more in the queue than allowed: a job leaves it when it is asked for.
    for check, after in zip([times[0], *asked], [*asked, times[-1] + 1], strict=True):
        assert sum(check <= t < after for t in times) <= at_once
    assert all(later - earlier > 1.9 for earlier, later in itertools.pairwise(asked))
    print(f"{MANY} jobs in {times[-1] - times[0]:.0f} s, {len(asked)} questions")
