"""The block `scale`: which values of a study become smaller, and how."""

from pathlib import Path
from typing import Any

import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.causes import training
from clipshift.study.config.folders import FolderPool
from clipshift.study.config.load import changes, merged, parse
from clipshift.study.config.scale import Scale, described
from tests.conftest import ROOT

LAION, YFCC = (ROOT / f"config/{name}.yaml" for name in ("laion400m", "yfcc15m"))


def scaled(study: Path, **scale: Any) -> dict[str, Any]:
    return merged(study) | {"scale": scale}


def test_counts_of_the_pool_are_the_same_share_of_it() -> None:
    cfg = parse(scaled(LAION, images=407_000))
    assert (cfg.dedup.clusters, cfg.dedup.sample) == (50, 12_800)
    pool = cfg.pools["laion400m"]
    assert isinstance(pool, FolderPool) and (pool.samples, pool.tars) == (407_000, 41456)
    assert (cfg.splits["rand_175M"].size, cfg.splits["pruned_100M"].size) == (175_000, 100_000)
    assert cfg.splits["laion_mix_15p75_0p25M"].domain_counts == (15_750, 250, 0)
    assert cfg.study == "laion400m_scaled"
    # Other data, and what is no count of images, stay.
    assert cfg.pools["laion_labelled"].samples == 19_000  # type: ignore[union-attr]
    assert cfg.sets["imagenet_val"].samples == 50_000  # type: ignore[union-attr]
    assert (cfg.dedup.check, cfg.neighbours.k) == (10_000, 8)


def test_a_count_is_two_at_least() -> None:
    cfg = parse(scaled(LAION, images=1000, shards=2))
    assert cfg.splits["laion_mix_15p75_0p25M"].domain_counts == (39, 2, 0)


def test_the_rest_is_at_most_what_is_said() -> None:
    small = {"tars": 6, "shards": 3, "set_images": 60, "classes": 5, "epochs": 2,
             "batch": 32, "warmup": 9, "gpus": 0, "precision": "fp32", "labelled": 0.01,
             "model": {"vision_cfg": {"layers": 1, "width": 10**6}}}  # fmt: skip
    cfg = parse(scaled(LAION, **small))
    pool, labelled = cfg.pools["laion400m"], cfg.pools["laion_labelled"]
    assert isinstance(pool, FolderPool) and isinstance(labelled, FolderPool)
    assert (pool.tars, pool.shards, labelled.tars, labelled.shards) == (6, 3, 2, 1)
    assert {(s.samples, s.classes) for s in cfg.sets.values()} == {(60, 5)}  # type: ignore[union-attr]
    assert (cfg.dedup.clusters, cfg.dedup.jobs) == (50_000, 3)
    model = cfg.models["vit_b32"]
    assert (model.batch, model.warmup, model.gpus, model.precision) == (32, 9, 0, "fp32")
    assert (model.epochs, model.checkpoints) == (2, 2)  # type: ignore[union-attr]
    assert model.model["vision_cfg"] == {
        "image_size": 224, "layers": 1, "width": 768, "patch_size": 32,
    }  # fmt: skip
    assert cfg.domains
    tuned = cfg.domains.classifiers
    assert (labelled.samples, tuned["laion_ft_2p5k"].sampling) == (190, (25, False))
    assert tuned["laion_ft"].passes == 2


def test_samples_seen_are_passes_over_the_pool() -> None:
    """Also those of controlled trainings, which change keys of their base."""
    whole = parse(merged(YFCC))
    pool = whole.pools["yfcc15m"].samples  # type: ignore[union-attr]
    cfg = parse(scaled(YFCC, images=1000, epochs=2, batch=16, model={"vision_cfg": {"width": 64}}))
    for name in cfg.causes.models:
        passes = training(whole, name).samples / pool
        new = training(cfg, name)
        assert abs(new.samples - 1000 * min(2, passes)) < 1 and new.batch == 16


def test_without_the_block_nothing_changes() -> None:
    assert changes(merged(LAION)) == []
    assert [*described([])] == []
    empty = scaled(LAION, **Scale().model_dump())
    assert [str(change) for change in changes(empty)] == ["study: laion400m -> laion400m_scaled"]


def test_what_changes_is_said_where_it_is() -> None:
    weights = {"b16plus": {"model": "ViT-B-32", "pretrained": "mine.pt"}}
    lines = [str(c) for c in changes(scaled(LAION, encoders=weights, model={"embed_dim": 8}))]
    assert lines == [
        "study: laion400m -> laion400m_scaled",
        "models.vit_b32.model.embed_dim: 512 -> 8",
        "models.vit_b32_domains.model.embed_dim: 512 -> 8",
        "encoders.b16plus.model: ViT-B-16-plus-240 -> ViT-B-32",
        "encoders.b16plus.pretrained: laion400m_e32 -> mine.pt",
    ]


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"tars": 2}, "made smaller by the block `scale`.*448 shards share 2 tars"),
        ({"encoders": {"b16": {}}}, "'b16' is not one of"),
        ({"epoch": 1}, "scale.epoch: unknown key; did you mean 'epochs'"),
        ({"precision": "fp8"}, "made smaller by the block `scale`.*precision"),
    ],
)
def test_what_makes_no_study_is_refused(scale: dict[str, Any], message: str) -> None:
    with pytest.raises(ClipshiftError, match=f"(?s){message}"):
        parse(scaled(LAION, **scale))
