"""Jobs and daemons that fail in mid-run: the run goes on by itself and ends with the same bytes."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.slurm.slurm import Cluster, Local, Run, processes
from tests.workflow.runner import changed_config, contract, snakemake

POOL = (
    "results/pools/test_pool/00000.tar",
    "results/sets/test_reference/manifest.json",
    "results/sets/test_val/manifest.json",
)
SOURCE = "results/sources/test_photo/samples.tar"
SOURCES = (SOURCE, "results/sources/test_black/samples.tar")


def same(folder: Path, whole: dict[str, str]) -> None:
    """All results are there and whole: none differs from the local run's, nothing is left over."""
    mine = contract(folder)
    assert mine and mine == {name: whole.get(name) for name in mine}
    assert not list(folder.glob("results/**/.*.part"))


def stop(job: dict[str, str]) -> None:
    """Hold a job's program, so that the job cannot end before the test has disturbed it."""
    for pid in processes(job["JobId"]):
        os.kill(pid, signal.SIGSTOP)


def test_failed_cancelled_timed_out_and_lost_jobs_are_tried_again(
    cluster: Cluster, folder: Path, local: Local
) -> None:
    """Four faults in one run, on two nodes: sources, two sets of images, a pool shard."""
    run = Run(cluster, folder, *POOL)
    try:
        # 1. Its program fails (killed, as by the kernel where memory is short).
        failed = run.wait_for(lambda: cluster.running(folder, "source"), "a source")
        for pid in processes(failed["JobId"]):
            os.kill(pid, signal.SIGKILL)
        caught: dict[str, dict[str, str]] = {}

        def catch() -> dict[str, dict[str, str]] | None:
            """Stop each job when it is first seen: they run side by side, in any order."""
            for rule in ("reference_set", "test_set", "pool_shard"):
                job = None if rule in caught else cluster.running(folder, rule)
                if job is None:
                    continue
                stop(job)
                caught[rule] = job
                if rule == "reference_set":  # 2. Somebody cancels it.
                    cluster.ask("scancel", job["JobId"])
                if (
                    rule == "test_set"
                ):  # 3. It does not end in time; the shortest limit is a minute.
                    cluster.ask("scontrol", "update", f"JobId={job['JobId']}", "TimeLimit=1")
            return caught if len(caught) == 3 else None

        run.wait_for(catch, "two sets and a pool shard")
        cancelled, late, lost = (caught[r] for r in ("reference_set", "test_set", "pool_shard"))
        # 4. Its node dies.
        cluster.script("node", "lose", lost["NodeList"])
        output = run.end()
    finally:
        run.kill()
        cluster.script("node", "revive", lost["NodeList"])
    jobs = cluster.of_folder(folder)
    states = {job["JobId"]: job["JobState"] for job in jobs}
    assert [states[job["JobId"]] for job in (failed, cancelled, late)] == [
        "FAILED", "CANCELLED", "TIMEOUT",
    ]  # fmt: skip
    # Slurm itself put the lost job back, under its number, and it ran elsewhere.
    again = next(job for job in jobs if job["JobId"] == lost["JobId"])
    assert (again["JobState"], again["Restarts"]) == ("COMPLETED", "1")
    assert again["NodeList"] != lost["NodeList"]
    # The others were submitted once more, with twice the memory and the time.
    for old in (failed, cancelled, late):
        new = [job for job in jobs if job["Comment"] == old["Comment"]][1]
        assert new["JobState"] == "COMPLETED"
        assert _memory(new) == 2 * _memory(old)
        assert _minutes(new["TimeLimit"]) == 2 * _minutes(old["TimeLimit"])
    assert "Trying to restart" in output
    same(folder, local(*POOL))


def _memory(job: dict[str, str]) -> int:
    return int(job["MinMemoryNode"].removesuffix("M"))


def _minutes(limit: str) -> int:
    hours, minutes, _ = limit.split(":")
    return 60 * int(hours) + int(minutes)


def test_out_of_memory(cluster: Cluster, folder: Path, local: Local) -> None:
    """The kernel ends what uses more than was asked for; the next attempt asks for more."""
    if not (cluster.folder / "etc/cgroup.conf").exists():
        pytest.skip("Slurm holds no job to its memory here: that needs root and cgroups, version 1")
    run = Run(cluster, folder, SOURCE, options=("--set-resources", "source:mem_mb=100*attempt**4"))
    try:
        run.end()
    finally:
        run.kill()
    states = [(job["JobState"], _memory(job)) for job in cluster.of_folder(folder)]
    assert states == [("OUT_OF_MEMORY", 100), ("COMPLETED", 1600)]
    same(folder, local(*SOURCES))


def test_a_preempted_training_continues_at_its_checkpoint(
    cluster: Cluster, folder: Path, local: Local
) -> None:
    """A job of another partition takes its node; Slurm puts it back, and no attempt is used up."""
    model = "results/models/test_full-nano-s0/record.json"
    long = {"models.nano.samples": 8192, "models.nano.checkpoints": 16}
    config = changed_config(folder.parent, long)
    folder.mkdir()
    snakemake(folder, model, "--omit-from", "train", config=config)  # Slurm gets the training only
    run = Run(cluster, folder, model, config=config)
    try:
        job = run.wait_for(lambda: cluster.running(folder, "train"), "the training")
        run.wait_for(lambda: next(folder.glob("results/work/**/epoch_1.pt"), None), "a checkpoint")
        stop(job)
        cluster.ask("sbatch", "-p", "urgent", "-w", job["NodeList"], "--mem=1", "-o", "/dev/null",
                    "--wrap=sleep 1")  # fmt: skip
        run.end()
    finally:
        run.kill()
    (trained,) = [j for j in cluster.of_folder(folder) if j["rule"] == "train"]
    assert (trained["JobState"], trained["Restarts"]) == ("COMPLETED", "1")
    log = (folder / "results/logs/train/test_full-nano-s0.log").read_text()
    done = re.search(r"(\d+) of 16 parts are done", log)
    assert done and int(done[1]) < 16
    same(folder, local(model, config=config))


def test_the_controller_is_restarted_in_mid_run(
    cluster: Cluster, folder: Path, local: Local
) -> None:
    run = Run(cluster, folder, *SOURCES)
    try:
        job = run.wait_for(lambda: cluster.running(folder, "source"), "a job")
        cluster.script("controller", "stop")
        # The job ends while nobody is there to hear of it, and Snakemake asks in vain.
        deadline = time.monotonic() + 60
        while processes(job["JobId"]) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(8)
        cluster.script("controller", "start")
        run.end()
    finally:
        run.kill()
    assert {j["JobState"] for j in cluster.of_folder(folder)} == {"COMPLETED"}
    same(folder, local(*SOURCES))


def test_a_killed_run_is_taken_up_when_its_jobs_have_ended(
    cluster: Cluster, folder: Path, local: Local
) -> None:
    """SIGKILL of Snakemake leaves its jobs running: a second run must not submit them twice."""
    run = Run(cluster, folder, SOURCE)
    try:
        job = run.wait_for(lambda: cluster.running(folder, "source"), "a job")
        stop(job)
    finally:
        run.kill()
    snakemake(folder, "--unlock")
    second = Run(cluster, folder, SOURCE)
    assert second.process.wait(120) != 0
    assert f"scancel {job['JobId']}" in second.text()
    cluster.ask("scancel", job["JobId"])
    deadline = time.monotonic() + 30
    while cluster.ask("squeue", "-h", "-j", job["JobId"]).strip() and time.monotonic() < deadline:
        time.sleep(0.2)
    snakemake(folder, "--unlock")
    Run(cluster, folder, SOURCE).end()
    same(folder, local(*SOURCES))


def test_an_interrupted_run_takes_its_jobs_with_it(cluster: Cluster, folder: Path) -> None:
    """Between two status checks: the plugin forgets its jobs while it asks for them."""
    env = cluster.environment({"first_check": 60}) | {"CLIPSHIFT_POLL": "60"}
    run = Run(cluster, folder, SOURCE, env=env)
    try:
        job = run.wait_for(lambda: cluster.running(folder, "source"), "a job")
        stop(job)
        run.process.send_signal(signal.SIGINT)  # Ctrl-C
        run.process.wait(120)
    finally:
        run.kill()
    states = {j["JobId"]: j["JobState"] for j in cluster.of_folder(folder)}
    assert states[job["JobId"]] == "CANCELLED"
