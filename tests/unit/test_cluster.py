"""The cluster's names: faults that name the file, and what to do about jobs that were left."""

import re
import shlex
import subprocess
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from clipshift.apps.cluster_check import report
from clipshift.apps.cluster_check.run import check
from clipshift.core.errors import ClipshiftError
from clipshift.study import cluster
from clipshift.study.cluster import names, quoting, submission
from tests.conftest import ROOT, dump

NAMES = {"cpu_partition": "batch", "gpu_partition": "accel"}


def program(folder: Path, name: str, text: str) -> None:
    path = dump(folder / name, f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH: no Slurm but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_the_shipped_file_is_valid_and_complete() -> None:
    assert cluster.read(cluster.SHIPPED).gpu_partition == "a100"
    assert set(yaml.safe_load(cluster.SHIPPED.read_text())) == set(cluster.Cluster.model_fields)
    page = (ROOT / "docs/cluster.md").read_text()
    assert not [name for name in cluster.Cluster.model_fields if f"`{name}`" not in page]


def test_a_variable_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSHIFT_CLUSTER", str(dump(tmp_path / "mine.yaml", NAMES)))
    assert cluster.read().gpu_partition == "accel"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpu_partitoin": "x"}, "gpu_partitoin: Extra inputs are not permitted"),
        ({"cpu_partition": "a b"}, "cpu_partition: "),
        ({"cpu_partition": "-p"}, "cpu_partition: "),
        ({"gpu_model": "a100; touch x"}, "gpu_model: "),
        ({"gpu_model": "--x"}, "gpu_model: "),
        ({"gpu_model": "a100\n"}, "gpu_model: "),
        ({"qos": {"gpu": "$(id)"}}, "qos.gpu: "),
        ({"qos": {"gpus": "high"}}, "qos.gpus: Extra inputs are not permitted"),
        ({"constraint": "a100 b"}, "constraint.cpu: "),
        ({"reservation": "`id`"}, "reservation.cpu: "),
        ({"gres": "gpu:a100:1"}, "lacks {gpus}, the number of GPUs: e.g. gpu:a100:{gpus}"),
        ({"gres": "gpu:{modle}:{gpus}"}, "braces are {gpus} and {model} only"),
        ({"gres": "gpu:{model}:{gpus}"}, "has {model}, and gpu_model is null"),
        ({"gres": "gpu:$(id):{gpus}"}, "gres."),
        ({"memory": "cpu", "cpus_per_gpu": None}, "memory: cpu needs cpus_per_gpu"),
        ({"extra": "--partition=x"}, "is sbatch's --partition: say it with cpu_partition"),
        ({"extra": "--part=x"}, "is sbatch's --partition"),
        ({"extra": ["--wrap=id"]}, "every run sets it itself"),
        ({"extra": "script.sh"}, "extra.cpu.0: "),
        ({"extra": "-p x"}, "extra.cpu.0: "),
        ({"extra": ["--x=a\nb"]}, "extra.cpu.0: "),
        ({"extra": "--x='a"}, "No closing quotation"),
        ({"rules": {"trian": {}}}, "rules: no rules: trian; there are "),
        ({"rules": {"train": {"gpus": 3}}}, "rules.train.gpus: Extra inputs"),
        ({"rules": {"train": {"runtime": 0}}}, "rules.train.runtime: "),
        ({"rules": {"train": {"extra": "--mem=1"}}}, "rules.train.extra.0: "),
        ({"scratch": "-x"}, "scratch: "),
        ({"scratch": "/a b"}, "scratch: "),
        ({"submissions": "fast"}, "submissions: "),
        ({"submissions": "0/1s"}, "submissions: "),
        ({"account": 123}, "account: Input should be a valid string, found 123: write it in quote"),
        ({"account": "a; rm -rf ~"}, "account: "),
        ({"status": "qstat"}, "status: "),
    ],
)
def test_a_fault_names_file_and_key(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = dump(tmp_path / "mine.yaml", NAMES | change)
    with pytest.raises(ClipshiftError) as caught:
        cluster.read(path)
    assert str(path) in str(caught.value) and says in str(caught.value)


def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="CLIPSHIFT_CLUSTER"):
        cluster.read(tmp_path / "none.yaml")


def test_sacct_is_asked_only_where_it_answers(bin_folder: Path) -> None:
    asked = cluster.Cluster.model_validate(NAMES)
    assert cluster.status_command(asked) == "squeue"  # no sacct
    program(bin_folder, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert cluster.status_command(asked) == "squeue"
    program(bin_folder, "sacct", "exit 0")
    assert cluster.status_command(asked) == "sacct"
    assert cluster.status_command(asked.model_copy(update={"status": "squeue"})) == "squeue"


def test_leftovers_are_the_jobs_that_log_into_this_folder(bin_folder: Path, tmp_path: Path) -> None:
    cluster.refuse_leftovers(tmp_path)  # no squeue at all
    logs = tmp_path.resolve() / ".snakemake/slurm_logs/rule_train"
    lines = [f"11{' ' * 18}{logs}/%j.log{' ' * 40}", f"12{' ' * 18}/elsewhere/12.log", "13"]
    program(bin_folder, "squeue", "\n".join(f"echo '{line}'" for line in lines))
    assert cluster.leftovers(tmp_path) == ["11"]
    assert cluster.leftovers(tmp_path / "other") == []
    with pytest.raises(ClipshiftError, match="scancel 11"):
        cluster.refuse_leftovers(tmp_path)


class Wildcards:
    def __init__(self, model: str) -> None:
        self.model = model


def asked(
    resources: dict[str, Any], model: str, attempt: int = 1, rule: str = "train"
) -> dict[str, Any]:
    """The resources of a job, as Snakemake asks for them; those without a value are none."""
    given = {"attempt": attempt, "rulename": rule}
    values = {
        name: value(**{n: given.get(n, Wildcards(model)) for n in signature(value).parameters})
        if callable(value)
        else value
        for name, value in resources.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def needs(monkeypatch: pytest.MonkeyPatch, **amounts: Any) -> dict[str, Any]:
    cluster.in_use.cache_clear()
    resources = cluster.needs(**{"cfg": None} | amounts)
    monkeypatch.undo()
    cluster.in_use.cache_clear()
    return resources


def test_a_further_attempt_gets_as_much_again(monkeypatch: pytest.MonkeyPatch) -> None:
    short = needs(monkeypatch, memory=2000)
    assert asked(short, "a", 1) == {"mem_mb": 2000, "runtime": 60}
    assert asked(short, "a", 3) == {"mem_mb": 6000, "runtime": 180}


@pytest.mark.parametrize(
    ("change", "big", "small"),
    [
        ({"longest": 100}, 100, 100),
        ({"longest": {"gpu": 100}}, 100, 120),
        ({"longest": 30}, 30, 30),
        # What is said of a rule is not lowered, and not raised above the partition's.
        ({"longest": 100, "rules": {"train": {"runtime": 90}}}, 100, 100),
        ({"longest": 100, "rules": {"train": {"runtime": 500}}}, 500, 500),
    ],
)
def test_no_attempt_gets_more_time_than_its_partition_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], big: int, small: int
) -> None:
    found = requested(tmp_path, monkeypatch, change, attempt=2)
    assert [job["runtime"] for job in found] == [big, small]


def requested(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    rule: str = "train",
    attempt: int = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The resources of a job with two GPUs, and of one without, of a rule that has both."""
    monkeypatch.setenv(cluster.IN_USE, str(dump(tmp_path / "mine.yaml", NAMES | change)))
    gpus = {"big": 2, "small": 0}
    resources = needs(monkeypatch, memory=10, gpus=lambda w: gpus[w.model])
    big, small = (asked(resources, model, attempt, rule) for model in gpus)
    return big, small


COMMON = {"mem_mb": 10, "runtime": 60}
BIG = COMMON | {"gpu": 2, "slurm_partition": "accel", "cpus_per_gpu": 12}
SMALL = COMMON | {"gpu": 0, "slurm_partition": "batch"}


@pytest.mark.parametrize(
    ("change", "big", "small"),
    [
        ({}, {}, {}),
        (
            {"account": "vision", "gpu_model": "h100", "cpus_per_gpu": 6},
            {"slurm_account": "vision", "gpu_model": "h100", "cpus_per_gpu": 6},
            {"slurm_account": "vision"},
        ),
        ({"qos": "high"}, {"qos": "high"}, {"qos": "high"}),
        ({"qos": {"gpu": "long"}}, {"qos": "long"}, {}),
        ({"constraint": {"gpu": "a100&nvlink"}}, {"constraint": "a100&nvlink"}, {}),
        (
            {"reservation": {"cpu": "r1"}, "extra": "--exclusive '--mail-user=a b'"},
            {"slurm_extra": "--exclusive '--mail-user=a b'"},
            {"slurm_extra": "--reservation=r1 --exclusive '--mail-user=a b'"},
        ),
        ({"extra": {"gpu": ["--x=$(id)"]}}, {"slurm_extra": "'--x=$(id)'"}, {}),
        ({"cpu_partition": None}, {}, {"slurm_partition": None}),
        ({"gpu_partition": None}, {"slurm_partition": None}, {}),
        ({"cpus_per_gpu": None}, {"cpus_per_gpu": -1}, {}),
        (
            {"gres": True},
            {"gres": "gpu:{gpus}", "cpus_per_task": 24, "cpus_per_gpu": None},
            {},
        ),
        (
            {"gres": "gpu:1g.10gb:{gpus},lscratch:50", "cpus_per_gpu": None},
            {"gres": "gpu:1g.10gb:{gpus},lscratch:50", "cpus_per_task": -1, "cpus_per_gpu": None},
            {},
        ),
        (
            {"rules": {"train": {"partition": "long", "runtime": 7, "mem_mb": 9, "qos": "q"}}},
            {"slurm_partition": "long", "runtime": 7, "mem_mb": 9, "qos": "q"},
            {"slurm_partition": "long", "runtime": 7, "mem_mb": 9, "qos": "q"},
        ),
        ({"qos": "q", "rules": {"train": {"qos": None}}}, {}, {}),  # as for no other rule
        ({"qos": "q", "rules": {"embed": {"qos": None}}}, {"qos": "q"}, {"qos": "q"}),
    ],
)
def test_each_key_is_asked_for_by_the_jobs_that_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any],
    big: dict[str, Any], small: dict[str, Any],
) -> None:  # fmt: skip
    """By the GPUs of each job; a type without a GPU is a request that Slurm refuses."""
    found = requested(tmp_path, monkeypatch, change)
    expected = [
        {k: v for k, v in (base | own).items() if v is not None}
        for base, own in ((BIG, big), (SMALL, small))
    ]
    assert list(found) == expected


def test_a_rule_of_several_sets_is_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {"rules": {"margins": {"runtime": 9}}}
    for name in ("margins", "margins_2", "mine_margins_10"):  # a module's prefix
        assert requested(tmp_path, monkeypatch, rules, name)[0]["runtime"] == 9
    for name in ("", "cpu", "embed"):
        assert requested(tmp_path, monkeypatch, rules, name)[0]["runtime"] == 60


def test_rules_of_the_file_are_those_of_the_workflow() -> None:
    listed = subprocess.run(
        ["snakemake", "--list-rules", "--configfile", "config/test.yaml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    rules = {m[0] for line in listed if (m := re.match(r"[a-z_0-9]+(?=$| \()", line))} - {"all"}
    assert len(rules) > 40
    # A loop names its rules: {} and with numbers.
    assert {rule.rstrip("0123456789").rstrip("_") for rule in rules} <= names.rule_names()


def test_the_first_file_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LOCAL", tmp_path / "cluster.local.yaml")
    monkeypatch.delenv(cluster.VARIABLE, raising=False)
    assert names.locate() == cluster.SHIPPED
    dump(tmp_path / "cluster.local.yaml", NAMES)
    assert names.locate() == tmp_path / "cluster.local.yaml"
    monkeypatch.setenv(cluster.VARIABLE, "/elsewhere.yaml")
    assert names.locate() == Path("/elsewhere.yaml")
    ignored = ["git", "check-ignore", "-q", "profiles/slurm/cluster.local.yaml"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def job(**resources: Any) -> Any:
    return SimpleNamespace(threads=3, resources=submission._Resources(resources))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({}, ""),
        ({"gpu": 0, "gpu_model": "a100-sxm4-80gb"}, ""),
        ({"gpu": 2}, " --gpus=2"),
        ({"gpu": 2, "gpu_model": "a100-sxm4-80gb"}, " --gpus=a100-sxm4-80gb:2"),
        ({"gpu": 1, "gpu_model": "nvidia_a100_3g.40gb", "gres": "gpu:{model}:{gpus}"},
         " --gres=gpu:nvidia_a100_3g.40gb:1"),
        ({"gpu": 4, "gres": "gpu:{gpus},lscratch:100"}, " --gres=gpu:4,lscratch:100"),
    ],
)  # fmt: skip
def test_gpus_in_sbatchs_words(resources: dict[str, Any], words: str) -> None:
    assert submission.gpu_words(job(**resources)) == words


@pytest.mark.parametrize("bad", ["a;id", "$(id)", "a b", "-x", "a\n", "é"])
def test_no_word_of_gpus_reaches_a_shell(bad: str) -> None:
    with pytest.raises(ClipshiftError, match="gpu_model"):
        submission.gpu_words(job(gpu=1, gpu_model=bad))
    with pytest.raises(ClipshiftError, match="gres"):
        submission.gpu_words(job(gpu=1, gres=bad))


@pytest.mark.parametrize(
    ("memory", "resources", "asked_for"),
    [
        ("job", {"mem_mb": 1000}, (1000, None)),
        ("cpu", {"mem_mb": 1000}, (1000, 334)),
        ("cpu", {"mem_mb": 1000, "gpu": 2, "cpus_per_gpu": 4}, (1000, 125)),
        ("cpu", {"mem_mb": 1000, "gpu": 2, "cpus_per_task": 10}, (1000, 100)),
        ("none", {"mem_mb": 1000}, (0, 0)),
    ],
)
def test_memory_as_the_cluster_wants_it(
    memory: str, resources: dict[str, Any], asked_for: tuple[int, int | None]
) -> None:
    found: list[Any] = []
    submission.submit_command(
        lambda given, *words: str(found.append(given.resources)),
        cluster.Cluster.model_validate({"memory": memory}), job(**resources),
    )  # fmt: skip
    assert (found[0].mem_mb, found[0].get("mem_mb_per_cpu")) == asked_for


def test_extra_words_of_the_command_line_are_quoted() -> None:
    words = submission.submit_command(
        lambda given: str(given.resources.slurm_extra), cluster.Cluster(),
        job(slurm_extra="--x=$(touch PWNED) ; 'a b'"),
    )  # fmt: skip
    assert shlex.split(words) == ["--x=$(touch", "PWNED)", ";", "a b"]
    assert words == "'--x=$(touch' 'PWNED)' ';' 'a b'"
    with pytest.raises(ClipshiftError, match="slurm_extra"):
        submission.submit_command(lambda given: "", cluster.Cluster(), job(slurm_extra="'"))


@pytest.mark.parametrize("text", ["data=it's $(id)", 'a"b`id`', "'quoted'; id; '", "a b", "é\n"])
def test_words_of_a_jobs_command_are_read_back_by_a_shell(text: str) -> None:
    from snakemake_interface_executor_plugins.utils import format_cli_arg

    assert quoting._value(text) == text  # where nothing is to be quoted
    quoting.quote_words()
    line = f"printf '%s\\0' {format_cli_arg('--config', [text, 'b=1'])}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[:-1] == ["--config", text, "b=1"]


def test_pythons_path_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment in a checkout whose path has a blank."""
    from snakemake_interface_executor_plugins.settings import SharedFSUsage

    monkeypatch.setattr("sys.executable", "/my study's/.venv/bin/python")
    quoting.quote_words()
    quoting.quote_words()  # once is enough
    storage = SimpleNamespace(shared_fs_usage=[SharedFSUsage.SOFTWARE_DEPLOYMENT])
    executor: Any = SimpleNamespace(workflow=SimpleNamespace(storage_settings=storage))
    for kind in (quoting.RemoteExecutor, quoting.jobstep.Executor):
        words = shlex.split(kind.get_python_executable(executor))
        assert words == ["/my study's/.venv/bin/python"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sbatch: error: invalid partition specified: x", "cpu_partition, gpu_partition"),
        ("Invalid qos specification", "qos"),
        ("Invalid feature specification", "constraint"),
        ("Invalid generic resource (gres) specification", "gpu_model"),
        ("Invalid account or account/partition combination specified", "account, or"),
        ("sbatch: unrecognized option '--foo'", "extra"),
        ("PENDING, QOSMaxGRESPerUser", "qos or account"),
        ("PENDING, Resources", "nothing: the cluster is busy"),
        ("a job died", "see docs/cluster.md"),
    ],
)
def test_advice_names_the_key(text: str, key: str) -> None:
    assert report.advice(text).startswith(key)


FOUND = {"cores": 12, "checkout": "/c", "gpus": ["A100"], "nvidia_smi": ["GPU 0: A100"],
         "torch": "2.0", "visible": "0"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, []),
        ({"cores": 1}, ["1 of 12 cores: cpus_per_gpu"]),
        ({"gpus": []}, ["torch 2.0 sees 0 of 1 GPUs, the driver shows 1: GPU 0: A100"]),
        ({"gpus": [], "nvidia_smi": []}, ["Slurm gave GPU 0"]),
        ({"gpus": [], "nvidia_smi": [], "visible": ""}, ["1 GPUs were asked for, none came"]),
        ({"checkout": "/other"}, ["it ran the code of /other, not /c"]),
    ],
)
def test_what_a_job_lacked(change: dict[str, Any], says: list[str]) -> None:
    found = report.faults(FOUND | change, cluster.Cluster(), 1, "/c")
    assert len(found) == len(says)
    assert all(fault.startswith(text) for fault, text in zip(found, says, strict=True))


def test_a_machine_without_slurm_is_told(bin_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="sbatch: command not found; run cluster-check on a"):
        check(dump(tmp_path / "mine.yaml", NAMES), 1, 1, tmp_path)
