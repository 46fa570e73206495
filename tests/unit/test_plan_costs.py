"""The cost model by hand, and the preview's reading of a dry run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config
from clipshift.study.planning import preview as plan
from clipshift.study.planning.costs import RULES, job_cost
from clipshift.study.planning.limits import limit
from clipshift.study.planning.networks import embed_rate
from clipshift.study.planning.planned import planned_jobs
from clipshift.study.planning.towers import published
from clipshift.study.planning.work import kept_share, points, union_share
from tests.conftest import ROOT

# Operations of ViT-B/32's vision tower: 12 blocks of 12 x 768^2 weights over 50 tokens, attention
# of 50 x 50 tokens, and the 49 patches.
B32 = 2 * 12 * 12 * 768**2 * 50 + 12 * 4 * 50**2 * 768 + 2 * 3 * 32**2 * 768 * 49
# Round numbers: 1,000 points in 2 shards, 10 dimensions, 20 test images, 50 of reference.
COSTS = {
    "picture_bytes": 100, "row_bytes": 10, "score_bytes": 4, "dimensions": 10, "built_samples": 7,
    "embed_per_second": 50, "gpu_flops": 1000, "gpu_flops_tf32": 500, "gpu_flops_fp32": 50 * B32,
    "gpu_bytes": 1e9, "cpu_flops": 1e9, "encoder_share": 0.25, "fp32_share": 0.5,
    "similarity_share": 0.5, "cluster_spread": 2, "kept_share": 0.75,
    "train_samples_per_gpu_hour": 3600, "cpu_rows_per_second": 100, "captions_per_second": 9,
    "cpu_pictures_per_second": 10, "disk_bytes_per_second": 1000, "small_job_seconds": 1,
    "calibration": {"guard": 3}, "margin": 2, "memory_margin": 1.5, "least_minutes": 3,
    "cores_per_gpu": 2, "gpus": 4, "jobs": 3,
}  # fmt: skip


def study() -> Config:
    raw = yaml.safe_load((Path(__file__).parent / "study.yaml").read_text())
    for key in ("packages", "sources", "classes", "holdout", "figures"):
        raw.pop(key)
    raw["pools"] = {"web": {"folder": "w", "tars": 8, "shards": 2, "samples": 1000}}
    raw["sets"] = {
        "ref": {"role": "reference", "folder": "r", "classes": 2, "samples": 50},
        "val": {"folder": "v", "classes": 2, "samples": 12},
        "sketch": {"folder": "s", "classes": 2, "samples": 8},
    }
    raw |= {"pool": "web", "reference": "ref", "costs": COSTS, "dedup": {"clusters": 5, "jobs": 2}}
    raw["encoders"]["b16"] = {"kind": "open_clip", "model": "ViT-B-32", "pretrained": "p"}
    raw["splits"]["core"] = {"recipe": "far", "sets": ["val"], "keep": 250}
    raw["splits"] |= {
        "half_of_rand": {"recipe": "far", "sets": ["val"], "keep": 0.5, "within": "rand"},
        "few_of_rand": {"recipe": "rand", "keep": 100, "within": "rand"},
    }
    big = {"model": published("ViT-B-32"), "samples": 720, "batch": 8, "read": "filter"}
    raw["models"]["big"] = big | {"gpus": 2, "precision": "amp"}
    raw["models"]["again"] = raw["models"]["big"] | {"precision": "fp32", "accumulation": 2}
    raw["models"]["slow"] = big | {"checkpoints": 3}
    return parse(raw)


@pytest.fixture(name="cfg")
def _cfg() -> Config:
    return study()


def test_sizes(cfg: Config) -> None:
    assert points(cfg, "web") == 1000
    assert kept_share(cfg, "core") == 0.25
    assert kept_share(cfg, "rand") == 0.5
    assert kept_share(cfg, "pruned") == 0.75  # not known before
    assert kept_share(cfg, "half_of_rand") == 0.25
    assert kept_share(cfg, "few_of_rand") == 0.1  # a count is of nothing
    assert embed_rate(cfg, "b16") == 25  # half of 50 x B32 operations a second, below 50
    assert embed_rate(cfg, "lite0") == 50


def test_a_precision_is_planned_by_its_peak(cfg: Config) -> None:
    raw = cfg.model_dump()
    raw["costs"] |= {"gpu_flops": 8 * B32}
    raw["encoders"]["b16"]["precision"] = "bf16"
    assert embed_rate(parse(raw), "b16") == 2  # a quarter of 8


@pytest.mark.parametrize(
    ("rule", "wildcards", "expected"),
    [
        ("folder_pool", {"pool": "web"}, (5, 0, 5000, 5000)),
        ("embed", {"dataset": "web", "encoder": "b16"}, (50, 20, 100_000, 15_000)),
        ("embed", {"dataset": "val", "encoder": "b16"}, (1.2, 12 / 25, 2400, 360)),
        # 500 x 20 pairs of 20 operations at 500 a second; (500 + 20) x 20 bytes; two sets.
        ("margins", {"piece": "b16/web/00000"}, (0, 400, 10_400, 4000)),
        ("margins", {"piece": "b16/web/00000", "testset": "val"}, (0, 240, 10_240, 2000)),
        # 2 x 1000^2 / 5 / 2 / 2 pairs.
        ("dedup_score", {"pool": "web"}, (10, 4000, 30_000, 22_000)),
        ("dedup_assign", {"pool": "web"}, (0, 100, 10_000, 2000)),
        # 720 samples at 3,600 an hour; a quarter of what is read is kept.
        ("train", {"split": "core", "model": "big"}, (72, 720, 288_000, 0)),
        # TF32 at half of the peak, and a forward pass more beside three.
        ("train", {"split": "core", "model": "again"}, (72, 720 * 2 * 4 / 3, 288_000, 0)),
        ("figure", {"kind": "tolerance", "figure": "none"}, (0, 0, 0, 0)),
        ("split", {"split": "core"}, (30, 0, 18_000, 10_000)),
        ("no_such_rule", {}, (0, 0, 0, 0)),
    ],
)
def test_cost_of_a_job(cfg: Config, rule: str, wildcards: dict[str, str], expected: Any) -> None:
    work = job_cost(cfg, rule, wildcards)
    assert (work.cpu - 1, work.gpu, work.read, work.written) == pytest.approx(expected)


def test_cost_of_resharding_and_of_what_reads_it(cfg: Config) -> None:
    """Two splits of 250 and 500 of 1,000 points; the tars hold three quarters of the pool."""
    raw = cfg.model_dump(mode="json") | {"reshard": {"two": {"splits": ["core", "rand"]}}}
    resharded = parse(raw)
    work = job_cost(resharded, "reshard", {"reshard": "two", "shard": "00000"})
    # Of 500 points rows of two splits at 100 a second, and 375 images at 10; 500 x (100 + 2 x 10).
    assert (work.cpu - 1, work.read, work.written) == pytest.approx((10 + 37.5, 60_000, 37_500))
    train = job_cost(resharded, "train", {"split": "core", "model": "big"})
    assert (train.gpu, train.read) == pytest.approx((720, 72_000 * 3))  # a third of it is kept


def test_splits_by_domain_draw_nested_points() -> None:
    cfg = load(ROOT / "config/laion400m.yaml")
    assert union_share(cfg, "domains_small") == pytest.approx(32e6 / 407e6)
    assert union_share(cfg, "domains_random") == pytest.approx(57e6 / 407e6)


def test_time_of_a_job_is_that_of_its_slowest_part(cfg: Config) -> None:
    train = job_cost(cfg, "train", {"split": "core", "model": "big"}, gpus=2)
    assert train.seconds(cfg) == pytest.approx(1 + max(720 / 2, 288))
    towers = B32 + 2 * 12 * 12 * 512**2 * 77 + 12 * 4 * 77**2 * 512
    on_cores = job_cost(cfg, "train", {"split": "core", "model": "slow"})
    assert on_cores.cpu - 1 == pytest.approx(72 + 3 * 720 * towers / 1e9)
    guard = job_cost(cfg, "guard", {"split": "core"})
    assert guard.seconds(cfg) == 3 * (1 + 1 + 10)  # as measured: three times as long
    embed = job_cost(cfg, "embed", {"dataset": "web", "encoder": "b16"}, gpus=1)
    assert embed.seconds(cfg) == 1 + max((50 + 1) / 2, 20, 115_000 / 1000)


DRY_RUN = """Building DAG of jobs...
Job stats:
job    count

[Tue Nov 24 09:04:17 2026]
rule embed:
    input: a, b
    output: c
    wildcards: encoder=b16, dataset=web, shard=00000
    resources: gpu=1
[Tue Nov 24 09:04:17 2026]
rule embed:
    output: c
    wildcards: encoder=b16, dataset=web, shard=00001
    resources: mem_mb=32000, gpu=1, runtime=240

[Tue Nov 24 09:04:17 2026]
localrule all:
    input: c
Job stats:
job    count
"""


def test_jobs_of_a_dry_run(cfg: Config) -> None:
    jobs = list(planned_jobs(DRY_RUN))
    assert [job.rule for job in jobs] == ["embed", "embed", "all"]
    assert jobs[0].inputs == ["a", "b"] and jobs[0].outputs == ["c"]
    assert jobs[1].wildcards == {"encoder": "b16", "dataset": "web", "shard": "00001"}
    assert jobs[1].asked == {"mem_mb": 32000, "gpu": 1, "runtime": 240}
    assert [job.gpus for job in jobs] == [1, 1, 0]
    embed, last = plan.summarise(cfg, jobs)
    assert (embed.jobs, embed.read, last.jobs) == (2, 200_000, 1)
    assert (embed.limit, embed.memory, embed.longest) == (240, 32000, 116)
    assert embed.gpu == 2 * 116  # held for 116 s each
    assert embed.wall == 116  # four GPUs: side by side
    text = plan.table([embed, last])
    assert text.splitlines()[-1].split()[:2] == ["total", "3"]


def test_limits_are_planned_with_their_margins(cfg: Config) -> None:
    small = limit(cfg, "no_such_rule", {}, 0, 500)
    assert small == (3, 500)  # the least of both
    # 2 x 12,003 s; 150 bytes a row, which are fewer than the rule's programs take.
    assert limit(cfg, "dedup_score", {"pool": "web"}, 1, 1)[0] == 2 * 4001 // 60 + 1
    assert limit(cfg, "dedup_apply", {"pool": "web"}, 0, 1) == (3, 1)
    assert limit(cfg, "train", {"split": "core", "model": "big"}, 2, 8000)[1] == 2 * 25_600 * 1.5


def test_preview_names_what_is_missing_and_every_constant(cfg: Config) -> None:
    text = plan.report(cfg, [*planned_jobs(DRY_RUN)])
    assert "data/w (web)" in text
    assert "Not known before" in text and "pruned" in text
    assert all(f"  {name} = " in text for name in COSTS)


def test_every_costed_rule_is_a_rule_of_the_workflow() -> None:
    rules = "".join(f.read_text() for f in (ROOT / "workflow/rules").glob("*.smk"))
    said = ("rule {}:", " as {} with", 'else "{}"')
    assert [r for r in RULES if not any(text.format(r) in rules for text in said)] == []


def test_the_preview_imports_no_torch() -> None:
    code = "import sys, clipshift.study.planning.preview; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
