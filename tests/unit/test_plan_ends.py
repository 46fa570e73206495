"""Would a plan end: memory on a GPU, limits, the longest chain; planned against measured."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.objective_base import Controlled
from clipshift.study.config.study import Config
from clipshift.study.config.trainings import Training
from clipshift.study.planning import gpu_memory, towers
from clipshift.study.planning.compare import compare, text
from clipshift.study.planning.ends import faults
from clipshift.study.planning.planned import Job
from clipshift.study.planning.schedule import schedule
from clipshift.training.objectives.simclr import SimCLR
from tests.unit.test_plan_costs import COSTS, study

SMALL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
RESNET = SMALL | {"vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 64}}


@pytest.fixture(name="cfg")
def _cfg() -> Config:
    return study()


@pytest.mark.parametrize("config", [SMALL, RESNET], ids=["vit", "resnet"])
def test_towers_are_what_torch_has_and_keeps(config: dict[str, Any]) -> None:
    """Weights are counted, and so are the values that autograd saves for a backward pass."""
    from open_clip.model import CLIP

    if config is RESNET:
        config = config | {"vision_cfg": config["vision_cfg"] | {"patch_size": None}}
    model = CLIP(**config)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        if value.is_floating_point() and storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes() // 4
        return value

    images, side = 4, config["vision_cfg"]["image_size"]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        _held = model.encode_image(torch.randn(images, 3, side, side))
    tower = towers.vision(config)
    counted = sum(p.numel() for p in model.visual.parameters())
    assert tower.weights == pytest.approx(counted, rel=0.02)
    assert tower.kept == pytest.approx(sum(saved.values()) / images, rel=0.2)
    of_text = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("visual"))
    assert towers.text(config).weights == pytest.approx(of_text, rel=0.01)


def test_operations_are_the_published_ones() -> None:
    """Of image and caption, in 10^9: as counted for open_clip's models."""
    for name, expected in {"ViT-B-32": 14.8, "ViT-B-16": 41.1, "RN50": 18.2}.items():
        model = towers.published(name)
        assert model is not None
        flops = towers.vision(model).flops + towers.text(model).flops
        assert flops / 1e9 == pytest.approx(expected, rel=0.05)
    assert towers.published("no such model") is None and towers.published("hf-hub:a/b") is None


def test_tuning_a_large_tower() -> None:
    """ViT-L/14 at 256 images: 16 x 257 x 1,024 values in each of 24 blocks, and its weights."""
    model = towers.published("ViT-L-14")
    assert model is not None
    at_once = 256 * 24 * 16 * 257 * 1024 * 4
    whole = gpu_memory.tuning(model, "fp32", 256)
    assert whole == pytest.approx(2e9 + 1.1 * (at_once + 12 * 303_966_208), rel=0.001)
    assert whole > 105e9
    assert gpu_memory.tuning(model, "fp32", 64) < 40e9
    assert gpu_memory.tuning(model, "bf16", 256) < 0.55 * whole
    assert gpu_memory.forward(model, "fp32", 256) < 10e9


def test_keys_of_a_training_change_its_memory() -> None:
    base: dict[str, Any] = {"model": SMALL, "samples": 1, "batch": 65_536, "gpus": 4}
    simclr = SimCLR(objective="simclr", base="b", corpus="c")

    def needed(spec: Controlled | None = None, **keys: Any) -> float:
        return gpu_memory.training(SMALL, Training.model_validate(base | keys), spec)

    whole = needed()
    assert needed(accumulation=16) < 0.9 * whole
    assert needed(grad_checkpointing=True) < whole
    assert needed(precision="amp") < whole
    assert needed(gpus=8) < whole
    # Two views of a tower, and no text: more than one of both towers.
    assert needed(simclr) > whole


def job(rule: str, wildcards: dict[str, str], **asked: int) -> Job:
    return Job(rule, wildcards, asked=asked)


def test_what_would_not_end_is_said_with_its_remedy(cfg: Config) -> None:
    score = {"pool": "web", "encoder": "b16", "group": "00000"}
    # 4,001 s are planned, twice as much is its limit.
    assert faults(cfg, [job("dedup_score", score, runtime=134, gpu=1)]) == []
    (late,) = faults(cfg, [job("dedup_score", score, runtime=n, gpu=1) for n in (134, 133, 60)])
    assert "2 of its jobs" in late and "gets 1.0 h" in late and "`dedup.jobs`" in late
    # Parts of a training each end in time, though the whole does not.
    train = {"split": "core", "model": "slow", "seed": "0"}
    whole = job("train", train).work(cfg).seconds(cfg) / 60
    assert faults(cfg, [job("train", train, runtime=int(whole * 2 / 3) + 1)]) == []
    (parts,) = faults(cfg, [job("train", train, runtime=int(whole * 2 / 3) - 1)])
    assert "between two checkpoints" in parts and "`checkpoints`" in parts


def test_memory_that_is_not_there_is_said(cfg: Config) -> None:
    train = {"split": "core", "model": "big", "seed": "0"}
    fits, large = (job("train", train, gpu=2, mem_mb=n, runtime=999) for n in (51_200, 51_199))
    on_gpu = fits.work(cfg).gpu_memory
    cfg = Config.model_validate(cfg.model_dump() | {"costs": COSTS | {"gpu_bytes": on_gpu}})
    assert faults(cfg, [fits]) == []
    assert "mem_mb" in faults(cfg, [large])[0]
    less = Config.model_validate(cfg.model_dump() | {"costs": COSTS | {"gpu_bytes": 1e8}})
    (said,) = faults(less, [fits])
    assert "on each of its GPUs, which have 100 MB" in said and "`accumulation`" in said


def test_the_longest_chain_and_the_wall_clock(cfg: Config) -> None:
    """One job of 2 s, then nine of 116 s on a GPU each, then one of 2 s again."""
    first = Job("split_samples", outputs=["a"])
    wildcards = {"encoder": "b16", "dataset": "web", "shard": "00000"}
    middle = [Job("embed", wildcards, ["a"], [f"b{i}"], asked={"gpu": 1}) for i in range(9)]
    last = Job("all", inputs=["a", *(f"b{i}" for i in range(9)), "elsewhere"])
    plan = schedule(cfg, [last, *middle, first])
    assert [j.rule for j in plan.chain] == ["split_samples", "embed", "all"]
    assert plan.seconds == 2 + 116 + 2
    assert plan.wall == 2 + 3 * 116 + 2  # four GPUs
    assert plan.kept == 9 * 15_000 and plan.scratch == 0
    score = {"pool": "web", "encoder": "b16", "group": "00000"}
    alone = schedule(cfg, [job("dedup_score", score, gpu=1)])
    # Twice the vectors of 500 points; 2,000 bytes of scores stay.
    assert (alone.scratch, alone.kept) == (20_000, 2000)
    assert schedule(cfg, []).wall == 0


def record(folder: Path, file: str, log: str, seconds: float) -> None:
    """As Snakemake keeps it."""
    name = base64.urlsafe_b64encode(file.encode()).decode()
    path = folder / ".snakemake/metadata" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"rule": "r", "log": [log], "starttime": 1000.0, "endtime": 1000 + seconds}
    path.write_text(json.dumps(said))


def test_planned_against_measured(cfg: Config, tmp_path: Path) -> None:
    embed = [
        Job("embed", {"encoder": "b16", "dataset": "web", "shard": str(i)}, [], [f"e{i}"],
            f"bench{i}.tsv", {"gpu": 1, "mem_mb": 900})
        for i in range(2)
    ]  # fmt: skip
    for i, line in enumerate(["200.5\t0:03:20\t512.0", "31.5\t0:00:31\tNA"]):
        (tmp_path / f"bench{i}.tsv").write_text(f"s\th:m:s\tmax_rss\n{line}\n")
    record(tmp_path, "e0", "log", 9999)  # with its time in the queue
    # One job made the files of two that are planned.
    logits = [Job("guard", {"split": "core"}, [], [f"g{i}"]) for i in range(2)]
    for job in logits:
        record(tmp_path, job.outputs[0], "one.log", 72)
    never = Job("split", {"split": "core"}, [], ["s"])
    rows = {row.rule: row for row in compare(cfg, [*embed, *logits, never], tmp_path)}
    assert rows.keys() == {"embed", "guard"}
    assert (rows["embed"].planned, rows["embed"].measured) == (232, 232)
    assert (rows["embed"].jobs, rows["embed"].memory, rows["embed"].asked) == (2, 512, 900)
    # 2 x 36 s planned: a factor of three is in them already.
    assert (rows["guard"].jobs, rows["guard"].planned, rows["guard"].measured) == (1, 72, 72)
    said = text(cfg, list(rows.values()), 3)
    assert "  calibration:\n    embed: 1\n    guard: 3" in said
    (tmp_path / "bench0.tsv").write_text("s\n")
    with pytest.raises(ClipshiftError, match=r"bench0.tsv: no benchmark of Snakemake"):
        compare(cfg, embed, tmp_path)
