"""The full-scale studies, planned to their last job: would each job end, in its memory?"""

import re
from math import ceil

import pytest

from clipshift.study.config.load import load
from clipshift.study.config.study import Config
from clipshift.study.planning.ends import faults
from clipshift.study.planning.planned import Job
from clipshift.study.planning.preview import dry_run, report
from tests.workflow.runner import ROOT

STUDIES = ["laion400m", "imagenet_captions", "yfcc15m"]


@pytest.fixture(scope="module", params=STUDIES)
def planned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, list[Job]]:
    """A study, and all jobs of its plan with what they would ask Slurm for."""
    file, folder = ROOT / f"config/{request.param}.yaml", tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSHIFT_CLUSTER", str(ROOT / "profiles/slurm/cluster.yaml"))
        options = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
        return load(file), dry_run([*options, "--configfile", str(file), "--cores", "1"])


def test_every_job_ends(planned: tuple[Config, list[Job]]) -> None:
    cfg, jobs = planned
    assert faults(cfg, jobs) == []
    for job in jobs:
        work, limit = job.work(cfg), job.asked.get("runtime")
        if limit is None:  # it runs where Snakemake does
            continue
        # Written out: twice what is planned, of a training twice what a part of it is.
        assert 2 * work.seconds(cfg) / max(1, work.parts) <= 60 * limit, job
        assert limit <= 10080
        assert 1.25 * work.memory <= 1e6 * job.asked["mem_mb"], job
        assert work.gpu_memory <= 80e9, job
    trainings = [job for job in jobs if job.name.startswith("train")]
    assert len(trainings) == {"laion400m": 53, "imagenet_captions": 15, "yfcc15m": 4}[cfg.study]
    assert all(job.gpus == 8 and job.work(cfg).parts for job in trainings)


def test_the_plan_says_what_it_takes(planned: tuple[Config, list[Job]]) -> None:
    cfg, jobs = planned
    text = report(cfg, jobs)
    (chain,) = re.findall(r"^Longest chain: ([\d.]+) [hd], .*: (.*) > all\.$", text, flags=re.M)
    assert "train" in chain[1] and chain[1].endswith("report_page")
    assert re.search(r"^Wall-clock: [\d.]+ [hd] on 64 GPUs", text, flags=re.M)
    assert re.search(r"^Disk: \d+ [GT]B stay", text, flags=re.M)
    assert re.search(r"^GPU-hours: [\d,]+, ", text, flags=re.M)


def test_what_a_training_takes_decides_its_limit(planned: tuple[Config, list[Job]]) -> None:
    """Of one job the limit by hand: not a constant of the rule."""
    cfg, jobs = planned
    train = next(job for job in jobs if job.name.startswith("train"))
    whole = ceil(train.work(cfg).seconds(cfg) * 2 / 60)
    assert train.asked["runtime"] == max(60, min(10080, whole))


def test_a_study_that_cannot_end_is_refused(planned: tuple[Config, list[Job]]) -> None:
    """On GPUs of 5 GB, at a small part of their rate."""
    cfg, jobs = planned
    costs = cfg.costs.model_dump() | {"gpu_bytes": 5e9, "train_samples_per_gpu_hour": 1e4}
    slow = Config.model_validate(cfg.model_dump() | {"costs": costs})
    said = faults(slow, jobs)
    assert any("GPUs, which have 5 GB" in text for text in said)
    assert any("between two checkpoints" in text for text in said)
