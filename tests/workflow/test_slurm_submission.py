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

from clipshift.study.planning.costs import base_rule
from tests.workflow import standin
from tests.workflow.runner import (
    ROOT,
    TEST_CONFIG,
    changed_config,
    environment,
    planned,
    snakemake,
)

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
LOCAL = {"all", "fetch", "pool_manifest", "set_prompts", "set_export"}  # run where Snakemake does
GPU = {"partition": "accel", "gpus": "h100:1", "cpus-per-gpu": "6", "mem": "32000", "time": "60"}
TRAIN = {"partition": "batch", "mem": "8000", "time": "60"}  # a model without a GPU


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
        self, study: Path, *words: str, check: bool = True, config: Path = TEST_CONFIG,
        timeout: float = 240,
    ) -> str:  # fmt: skip
        own = ["--profile", "slurm", "--configfile", str(config), "--directory", str(study)]
        own += ["--max-status-checks-per-second", "5", "--latency-wait", "5", "--nocolor"]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *own, *words], cwd=ROOT, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def submitted(self) -> list[dict[str, str]]:
        return [parsed(entry["words"]) for entry in self.kept("submitted")]

    def kept(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(x) for x in (self.folder / f"{name}.jsonl").read_text().splitlines()]


SHORT = {
    "-p": "partition", "-A": "account", "-t": "time", "-D": "folder", "-C": "constraint",
}  # fmt: skip


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
        elif job["rule"] == "dedup_fit":
            assert asked == GPU | {"mem": "64000"}
        elif job["rule"] == "split":
            assert asked == {"partition": "batch", "mem": "64000", "time": "60"}
        else:
            assert asked["partition"] == "batch" and asked.keys() == {"partition", "mem", "time"}
            assert 500 <= int(asked["mem"]) <= 3000 and asked["time"] == "60"
    rules = [job["rule"] for job in submitted]
    assert {rule: rules.count(rule) for rule in set(rules)} == {
        rule: n for rule, n in expected.items() if rule not in LOCAL
    }
    assert len({job["job-name"] for job in submitted}) == 1  # one question for all of them


def test_a_job_really_runs_and_a_failed_one_is_asked_for_more(tmp_path: Path) -> None:
    """The script that is submitted makes the file; where it fails, memory and time grow.

    Neither a login's nor a node's shell reads the paths of a run.
    """
    scratch = NAMES | {"scratch": f"{tmp_path}/scratch-$USER"}
    slurm, run = Slurm(tmp_path / "slurm", scratch), tmp_path / 'o\'brien "$(touch PWNED)" `id` é;x'
    (slurm.folder / "run").touch()
    run.mkdir()
    hostile = ["--config", 'data=it\'s $(touch PWNED) "`touch PWNED`"; touch PWNED']
    slurm.snakemake(run, *hostile, "--", "results/sources/test_photo/samples.tar")
    assert not [*tmp_path.rglob("PWNED"), *ROOT.glob("PWNED")]
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


SOURCE, EMBEDDED = (
    "results/sources/test_photo/samples.tar",
    "results/embeddings/lite0_64/test_val/img_emb/img_emb_00000.npy",
)
OWN_LINES = {  # of every job
    "parsable", "job-name", "output", "export", "comment", "rule", "ntasks", "folder", "requeue",
    "/dev/stdin",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the jobs of a source and of an embedding write, and those before them."""
    words = ["--dry-run", "--forceall", "--", SOURCE, EMBEDDED]
    plan = snakemake(tmp_path_factory.mktemp("made"), *words).stdout
    return ", ".join(re.findall(r"^    (?:output|benchmark): (.*)$", plan, flags=re.M)).split(", ")


@pytest.mark.parametrize(
    ("names", "cpu", "gpu"),
    [
        (
            {"gpu_model": "a100-sxm4-80gb", "qos": {"gpu": "long"}, "constraint": "a&b"},
            {"constraint": "a&b"},
            {"constraint": "a&b", "qos": "long", "gpus": "a100-sxm4-80gb:1"},
        ),
        (
            {"gres": True, "gpu_model": "nvidia_a100_3g.40gb", "memory": "cpu"},
            {"mem": None, "mem-per-cpu": "2000"},
            {"mem": None, "mem-per-cpu": "5334", "gpus": None, "cpus-per-gpu": None,
             "cpus-per-task": "6", "gres": "gpu:nvidia_a100_3g.40gb:1"},
        ),
        (
            {"gres": "gpu:{gpus},lscratch:50", "gpu_model": None, "cpus_per_gpu": None,
             "cpu_partition": None, "gpu_partition": None, "memory": "none", "account": None},
            {"mem": None, "partition": None, "account": None},
            {"mem": None, "partition": None, "account": None, "gpus": None, "cpus-per-gpu": None,
             "gres": "gpu:1,lscratch:50"},
        ),
        (
            {"gpu_model": None, "reservation": {"gpu": "course"},
             "extra": {"cpu": "--mail-user='a b;$(touch PWNED)'", "gpu": "--exclusive --x=`id`"},
             "rules": {"source": {"partition": "long", "runtime": 7, "mem_mb": 900}}},
            {"mail-user": "a b;$(touch PWNED)", "partition": "long", "time": "7", "mem": "900"},
            {"gpus": "1", "reservation": "course", "exclusive": "", "x": "`id`"},
        ),
    ],
)  # fmt: skip
def test_every_key_reaches_sbatch(
    made: list[str], tmp_path: Path, names: dict[str, Any], cpu: dict[str, Any], gpu: dict[str, Any]
) -> None:
    """And nothing else does; options are as they were in the file, whatever a shell makes of them.

    A source's job has no GPU, an embedding's has one; placeholders of what they make are there.
    """
    slurm = Slurm(tmp_path / "slurm", NAMES | {"scratch": None} | names)
    run = tmp_path / "run"
    plan = snakemake(run, "--dry-run", "--forceall", "--", SOURCE, EMBEDDED).stdout
    for file in ", ".join(re.findall(r"^    (?:output|benchmark): (.*)$", plan, flags=re.M)).split(
        ", "
    ):
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).touch()
        os.utime(run / file, (10**9, 10**9))
    for rule, target in (("embed", EMBEDDED), ("source", SOURCE)):
        slurm.snakemake(run, "--rerun-triggers", "mtime", "--forcerun", rule, "--", target)
    jobs = {job["rule"]: job for job in slurm.submitted()}
    assert jobs.keys() == {"source", "embed"}
    usual = {"account": "vision", "mem": "2000", "time": "60", "partition": "batch"}
    on_gpus = GPU | {"account": "vision"}
    expected = {"source": usual | {"cpus-per-task": "1"} | cpu, "embed": on_gpus | gpu}
    for rule, words in expected.items():
        found = {k: v for k, v in jobs[rule].items() if k not in OWN_LINES}
        assert found == {k: v for k, v in words.items() if v is not None}
    assert not list(tmp_path.rglob("PWNED")) and not (ROOT / "PWNED").exists()


def resources_of(text: str) -> dict[str, dict[str, str]]:
    """Rule -> resources of its first job in a dry run."""
    found: dict[str, dict[str, str]] = {}
    for rule, line in re.findall(r"^rule (\w+):.*?^    resources: (.*?)$", text, flags=re.M | re.S):
        words = [word.partition("=") for word in line.split(", ")]
        found.setdefault(base_rule(rule), {key: value for key, _, value in words})
    return found


def test_a_resource_on_the_command_line_changes_what_it_names(tmp_path: Path) -> None:
    """Of LAION-400M: every job still asks for its GPU, partition, account, memory and time.

    With fewer shards, whose jobs are all alike.
    """
    slurm = Slurm(tmp_path / "slurm")
    pool = {"pools.laion400m.tars": 4, "pools.laion400m.shards": 2}
    config = changed_config(tmp_path, pool, ROOT / "config/laion400m.yaml")
    (tmp_path / "run/data").mkdir(parents=True)

    def planned(*words: str) -> dict[str, dict[str, str]]:
        own = ["--dry-run", *words, "--", "results/eval/pruned_100M.json"]
        return resources_of(slurm.snakemake(tmp_path / "run", *own, config=config))

    plain = planned()
    gpu = {"gpu": "1", "slurm_partition": "accel", "gpu_model": "h100", "mem_mb": "32000"}
    assert plain["embed"].items() >= gpu.items() and plain["margins"].items() >= gpu.items()
    train = gpu | {"gpu": "8", "mem_mb": "256000", "runtime": "10080"}
    assert plain["train"].items() >= train.items()
    assert plain["split"].items() >= {"slurm_partition": "batch", "slurm_account": "vision"}.items()
    changed = planned("--set-resources", "train:runtime=1440")
    assert changed == plain | {"train": plain["train"] | {"runtime": "1440"}}
    changed = planned("--default-resources", "slurm_extra='--exclusive'")
    for rule, own in plain.items():
        assert changed[rule].items() >= (own | {"slurm_extra": "--exclusive"}).items()


def cluster_check(slurm: Slurm, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clipshift.apps.cli", "cluster-check"]
    return subprocess.run(
        [*command, "--directory", str(folder), *words],
        env=slurm.env, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_cluster_check_tells_what_came(tmp_path: Path) -> None:
    """The jobs run here, where there is no GPU."""
    slurm = Slurm(tmp_path / "slurm", NAMES | {"cpus_per_gpu": 1})
    (slurm.folder / "run").touch()
    done = cluster_check(slurm, tmp_path / "a b")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"cpu job [12]: came to \S+ after \d+ s", done.stderr), done.stderr
    assert re.search(r"gpu job [12]: came to ", done.stderr)
    assert "TMPDIR    /tmp/clipshift-somebody" in done.stderr
    assert f"checkout  {ROOT}" in done.stderr
    assert "gpu job: 1 GPUs were asked for, none came: gpu_partition, gpu_model" in done.stderr
    gpu, cpu = sorted(slurm.submitted(), key=lambda job: job["partition"])
    assert gpu["gpus"] == "h100:1" and gpu["mem"] == "32000" and gpu["partition"] == "accel"
    assert cpu["partition"] == "batch" and "gpus" not in cpu
    assert list((tmp_path / "a b/results/work").iterdir()) == []
    done = cluster_check(slurm, tmp_path / "a b", "--gpus", "0")
    assert done.returncode == 0 and "gpu job" not in done.stdout, done.stderr


def test_cluster_check_tells_why_sbatch_refused(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "slurm")
    (slurm.folder / "refuse").write_text("sbatch: error: Invalid qos specification")
    done = cluster_check(slurm, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for kind in ("cpu", "gpu"):
        text = f"{kind} job: sbatch: sbatch: error: Invalid qos specification\n    key: qos"
        assert text in done.stderr, done.stderr
    assert len(slurm.submitted()) == 2  # no attempt more


def test_cluster_check_cancels_what_waits_too_long(tmp_path: Path) -> None:
    slurm = Slurm(tmp_path / "slurm")
    (slurm.folder / "wait").write_text("QOSMaxGRESPerUser")
    done = cluster_check(slurm, tmp_path, "--minutes", "0.3")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    # On a busy machine the second one may not be submitted in time.
    waits = r"(cpu|gpu) job: pending or running at the end of the time: PENDING, QOSMaxGRES"
    assert re.search(waits, done.stderr), done.stderr
    assert "key: qos or account: a limit of theirs" in done.stderr
    cancelled = {word for entry in slurm.kept("cancelled") for word in entry["words"]}
    came = {file.stem for file in slurm.folder.glob("*.state")}
    assert came and came <= cancelled
    assert list((tmp_path / "results/work").iterdir()) == []


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
