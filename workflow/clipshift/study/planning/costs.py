"""The cost model of `clipshift plan`: what one job of a rule costs, from a study's configuration.

Pure functions of the configuration; nothing is measured and no file is looked at.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from clipshift.study.config.causes import LinearHead, training
from clipshift.study.config.classifier_base import ClassifierBase, Trained
from clipshift.study.config.study import Config
from clipshift.study.planning import gpu_memory, towers
from clipshift.study.planning.networks import (
    TORCH,
    architecture,
    embed_rate,
    forward_memory,
    image_flops,
    trained,
)
from clipshift.study.planning.work import (
    KEY,
    PAGE,
    Work,
    kept_share,
    points,
    products,
    reached,
    row_work,
    shard_points,
    test_images,
    union_share,
    vectors,
)

# Bytes of a key or a hash as an object of Python, and of a row of a table of scores while it is
# decided on (measured: 110).
OBJECT, SCORED = 120, 150


def _folder_pool(cfg: Config, w: Mapping[str, str]) -> Work:
    n = shard_points(cfg, w["pool"])
    return Work(cpu=row_work(cfg, n), read=n * cfg.costs.row_bytes, written=n * cfg.costs.row_bytes)


def _set(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, w["testset"]), cfg.costs
    return Work(n / c.cpu_pictures_per_second, read=n * c.picture_bytes, written=n * c.row_bytes)


def _pool_shard(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["pool"]), cfg.costs
    size = n * c.picture_bytes
    return Work(n / c.cpu_pictures_per_second, read=size, written=size)


def _embed(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    return Work(
        cpu=n / c.cpu_pictures_per_second,
        gpu=n / embed_rate(cfg, w["encoder"]),
        read=2 * n * c.picture_bytes,  # once more to verify a few rows
        written=vectors(cfg, n) + n * c.row_bytes,
        memory=TORCH + 2 * vectors(cfg, n) + n * 4 * OBJECT,
        gpu_memory=forward_memory(cfg, w["encoder"]),
    )


def _embedding_index(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["dataset"])
    return Work(n / cfg.costs.cpu_rows_per_second, read=n * KEY, written=n * KEY)


def _folder_embeddings(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    size = vectors(cfg, n) + n * c.row_bytes
    read = size + vectors(cfg, n)
    memory = 2 * vectors(cfg, n) + n * 4 * OBJECT
    return Work(row_work(cfg, n), read=read, written=size, memory=memory)


def _dedup_fit(cfg: Config, w: Mapping[str, str]) -> Work:
    block, n = cfg.dedup, points(cfg, w["pool"])
    pairs = block.sample * block.clusters * block.iterations
    return Work(
        gpu=row_work(cfg, n) + products(cfg, pairs),  # it waits for a hash of each key
        read=min(vectors(cfg, n), block.sample * PAGE) + n * KEY,
        memory=TORCH + 2 * vectors(cfg, block.sample) + block.sample * OBJECT,
    )


def _dedup_assign(cfg: Config, w: Mapping[str, str]) -> Work:
    n = shard_points(cfg, w["pool"])
    gpu = products(cfg, n * cfg.dedup.clusters)
    return Work(gpu=gpu, read=vectors(cfg, n), written=4 * n)  # an int32 a row


def _dedup_score(cfg: Config, w: Mapping[str, str]) -> Work:
    n, block = points(cfg, w["pool"]), cfg.dedup
    job_points = n / block.jobs
    # Pairs within clusters, each once; that clusters differ in size makes more of them.
    pairs = cfg.costs.cluster_spread * n * n / block.clusters / 2 / block.jobs
    read = min(vectors(cfg, n), job_points * PAGE) + n * cfg.costs.row_bytes
    scratch = 2 * vectors(cfg, job_points)
    written = scratch + job_points * cfg.costs.score_bytes
    memory = TORCH + cfg.costs.cluster_spread * job_points * 3 * OBJECT
    return Work(row_work(cfg, n), products(cfg, pairs), read, written, 0, scratch, memory)


def _dedup_apply(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["pool"]) / cfg.dedup.jobs
    size = n * cfg.costs.score_bytes
    return Work(row_work(cfg, n), read=size, written=size, memory=n * SCORED)


def _dedup_record(cfg: Config, w: Mapping[str, str]) -> Work:
    """The decisions of every threshold of the sweep, group by group."""
    n, block = points(cfg, cfg.pool), cfg.dedup
    memory = n / block.jobs * SCORED
    # Columns are compared, not joined: ten times the rows of other table work.
    cpu = row_work(cfg, n * (1 + len(block.sweep) / 10))
    return Work(cpu, read=n * cfg.costs.score_bytes, memory=memory)


def _dedup_check(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["pool"])
    return Work(gpu=products(cfg, n * cfg.dedup.check), read=vectors(cfg, n))


def _thresholds(cfg: Config, w: Mapping[str, str]) -> Work:
    tests = points(cfg, w["testset"]) if "testset" in w else test_images(cfg)
    reference = points(cfg, w.get("dataset", cfg.reference))
    read = vectors(cfg, reference + tests)
    return Work(gpu=products(cfg, reference * tests), read=read)


def _margins(cfg: Config, w: Mapping[str, str]) -> Work:
    """Of one test set, or of all where one job compares with them all."""
    sets = [w["testset"]] if "testset" in w else cfg.test_sets
    tests = sum(points(cfg, name) for name in sets)
    n = shard_points(cfg, w["piece"].split("/")[1])
    written = n * len(sets) * cfg.costs.score_bytes
    read = vectors(cfg, n + tests)
    return Work(gpu=products(cfg, n * tests), read=read, written=written)


def _neighbours(cfg: Config, w: Mapping[str, str]) -> Work:
    base = w["base"] if w["base"] in {**cfg.pools, **cfg.sets} else cfg.pool
    n, tests = points(cfg, base), points(cfg, w["testset"])
    return Work(row_work(cfg, n), products(cfg, n * tests), vectors(cfg, n))


def _split(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    sets = len(cfg.splits[w["split"]].driving_sets())
    read = n * (c.row_bytes + c.score_bytes * (1 + sets))
    return Work(row_work(cfg, n * (2 + sets)), read=read, written=n * c.row_bytes)


def _reshard(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c, splits = shard_points(cfg, cfg.pool), cfg.costs, len(cfg.reshard[w["reshard"]].splits)
    kept = n * union_share(cfg, w["reshard"])
    read = n * (c.picture_bytes + splits * c.row_bytes)
    cpu = row_work(cfg, n * splits) + kept / c.cpu_pictures_per_second
    return Work(cpu, read=read, written=kept * c.picture_bytes)


def _train(cfg: Config, w: Mapping[str, str]) -> Work:
    return trained(cfg, w["split"], cfg.models[w["model"]])


def _train_controlled(cfg: Config, w: Mapping[str, str]) -> Work:
    return trained(cfg, w["split"], training(cfg, w["model"]), cfg.causes.models[w["model"]])


def _logits(cfg: Config, w: Mapping[str, str]) -> Work:
    """Of one test set, or of all where one job makes them all; a probe is fitted first."""
    sets = [w["testset"]] if "testset" in w else cfg.test_sets
    n, c = sum(points(cfg, name) for name in sets), cfg.costs
    read = 2 * n * c.picture_bytes  # labels are checked first
    _, name, _, *head = w["evaluation"].split("-")
    probe = cfg.causes.heads.get(head[0]) if head else None
    if isinstance(probe, LinearHead):
        n += probe.most
        read += points(cfg, cfg.pool) * c.picture_bytes
    spec = cfg.causes.models.get(name)
    model, precision = cfg.models[spec.base if spec else name].model, cfg.evaluation.precision
    computed = n * towers.vision(model).flops / reached(c, precision)
    prepared = 2 * n / c.cpu_pictures_per_second  # by one core, for which the GPU waits
    return Work(
        prepared,
        max(computed, prepared),
        read,
        memory=TORCH + n * 4 * model["embed_dim"],
        gpu_memory=gpu_memory.forward(model, precision, cfg.evaluation.batch),
    )


def _guard(cfg: Config, w: Mapping[str, str]) -> Work:
    """The bytes of a split's samples against those of the test images."""
    n = points(cfg, cfg.pool)
    return Work(row_work(cfg, n), read=n * cfg.costs.row_bytes)


def _labelled(cfg: Config) -> float:
    """Images of the data sets that domain classifiers learn from."""
    return sum(points(cfg, name) for name in cfg.domains.labels.datasets) if cfg.domains else 0


def _precision(block: ClassifierBase) -> str:
    """Of a tuned encoder, in learning and in scoring."""
    return str(getattr(block, "precision", "fp32"))


def _domain_tune(cfg: Config, w: Mapping[str, str]) -> Work:
    assert cfg.domains
    c, block = cfg.costs, cfg.domains.classifiers[w["classifier"]]
    n = min(_labelled(cfg), block.size or math.inf) if isinstance(block, Trained) else 0
    model, precision = architecture(cfg, block.encoder), _precision(block)
    # A pass forward and back, by about three forward ones, and one over what is validated.
    frozen = getattr(block, "frozen", False)
    batch = getattr(block, "batch", 1) // getattr(block, "accumulation", 1)
    # Of its models each; a density ratio learns from all images and from those of the domain.
    seen = n * block.passes * block.models * (2 if block.form == "density_ratio" else 1)
    flops = (2 if frozen else 4) * seen * (image_flops(cfg, block.encoder) or 0)
    tuned = gpu_memory.forward if frozen else gpu_memory.tuning
    return Work(
        2 * seen / c.cpu_pictures_per_second,
        flops / reached(c, precision),
        _labelled(cfg) * c.picture_bytes,
        memory=2 * TORCH + _labelled(cfg) * c.picture_bytes,
        gpu_memory=tuned(model, precision, batch) if model else 0.0,
    )


def _domain_score_images(cfg: Config, w: Mapping[str, str]) -> Work:
    assert cfg.domains
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    block = cfg.domains.classifiers[w["classifier"]]
    # Of the pool, only what a split keeps may be scored; its tars are read whole.
    split = cfg.domains.pool_of if w["dataset"] == cfg.pool else None
    scored = n * block.models * (kept_share(cfg, split) if split else 1)
    return Work(
        scored / c.cpu_pictures_per_second,
        scored / embed_rate(cfg, block.encoder, _precision(block)),
        n * c.picture_bytes,
        n * c.score_bytes,
        memory=TORCH + n * OBJECT,
        gpu_memory=forward_memory(cfg, block.encoder),
    )


def _domain_composition(cfg: Config, w: Mapping[str, str]) -> Work:
    """Decisions of all data sets, counted."""
    n = sum(points(cfg, name) for name in {cfg.pool, cfg.reference, *cfg.test_sets})
    return Work(row_work(cfg, n), read=n * cfg.costs.score_bytes)


def _domain_rows(cfg: Config, w: Mapping[str, str]) -> Work:
    """Scores by embeddings, and decisions, of a shard."""
    n = shard_points(cfg, w["dataset"])
    return Work(row_work(cfg, n), read=vectors(cfg, n), written=n * cfg.costs.score_bytes)


def _caption(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.reference), cfg.costs
    size = n * c.picture_bytes
    return Work(n / c.cpu_pictures_per_second, read=size, written=size)


def _corpus(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    size = n * c.row_bytes
    return Work(n / c.captions_per_second, read=2 * size, written=size)


def _pool_captions(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["pool"]), cfg.costs
    return Work(row_work(cfg, n), read=n * c.row_bytes, written=n * c.row_bytes)


def _chosen(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    return Work(row_work(cfg, 2 * n), read=2 * n * c.row_bytes, written=n * c.row_bytes)


def _labels(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    return Work(4 * n / c.captions_per_second, read=n * c.row_bytes)


def _figure(cfg: Config, w: Mapping[str, str]) -> Work:
    """Small, but for those that count what each tolerance removes of the pool."""
    block = getattr(cfg.figures, w["kind"], {}).get(w["figure"])
    sets = getattr(block, "sets", []) if hasattr(block, "tolerances") else []
    n, c = points(cfg, cfg.pool), cfg.costs
    return Work(row_work(cfg, len(sets) * n), read=len(sets) * n * c.score_bytes)


RULES: dict[str, Callable[[Config, Mapping[str, str]], Work]] = {
    "folder_pool": _folder_pool,
    "folder_set": _set,
    "test_set": _set,
    "reference_set": _set,
    "pool_shard": _pool_shard,
    "embed": _embed,
    "embedding_index": _embedding_index,
    "folder_embeddings": _folder_embeddings,
    "dedup_fit": _dedup_fit,
    "dedup_assign": _dedup_assign,
    "dedup_score": _dedup_score,
    "dedup_apply": _dedup_apply,
    "dedup_check": _dedup_check,
    "dedup_record": _dedup_record,
    "thresholds": _thresholds,
    "margins": _margins,
    "neighbours": _neighbours,
    "split": _split,
    "reshard": _reshard,
    "train": _train,
    "guard": _guard,
    "logits": _logits,
    "caption_reference": _caption,
    "domain_tune": _domain_tune,
    "domain_score_images": _domain_score_images,
    "domain_score": _domain_rows,
    "domain_decisions": _domain_rows,
    "domain_composition": _domain_composition,
    "captioned_pool": _pool_shard,
    "converted_pool": _pool_shard,
    "converted_test_set": _set,
    "converted_reference_set": _set,
    "pool_captions": _pool_captions,
    "corpus": _corpus,
    "chosen": _chosen,
    "train_captions": _train_controlled,
    "train_vision": _train_controlled,
    "causes_labels": _labels,
    "figure": _figure,
}


def base_rule(rule: str) -> str:
    """A rule's name without the number of those that make several test sets in one job, and
    without what says that a training keeps the weights of its epochs.

    >>> base_rule("logits_2"), base_rule("dedup_score"), base_rule("train_vision_epochs")
    ('logits', 'dedup_score', 'train_vision')
    """
    return re.sub(r"_(\d+|epochs)$", "", rule)


def job_cost(cfg: Config, rule: str, wildcards: Mapping[str, str], gpus: int = 0) -> Work:
    """What one job costs, that holds so many GPUs; rules that are not listed are small."""
    rule = base_rule(rule)
    work = RULES[rule](cfg, wildcards) if rule in RULES else Work()
    factor = cfg.costs.calibration.get(rule, 1.0)
    return replace(work, cpu=work.cpu + cfg.costs.small_job_seconds, gpus=gpus, factor=factor)
