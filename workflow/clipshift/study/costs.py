"""The cost model of `clipshift plan`: what one job of a rule costs, from a study's configuration.

Pure functions of the configuration; nothing is measured and no file is looked at.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from clipshift.study.config.causes import LinearHead, training
from clipshift.study.config.folders import Outside
from clipshift.study.config.study import Config

# Kept shares of splits whose size nobody knows before count as 1.
UNKNOWN_SHARE = 1.0
# A page of a mapped file: the least that a row costs to read.
PAGE = 4096
# Bytes of a key or URL in an index, compressed.
KEY = 20


@dataclass(frozen=True)
class Work:
    """Work of one job: seconds of one core, seconds of one GPU, bytes; and the GPUs it holds."""

    cpu: float = 0.0
    gpu: float = 0.0
    read: float = 0.0
    written: float = 0.0
    gpus: int = 0

    def seconds(self, cfg: Config) -> float:
        """Wall-clock time of the job: its slowest part, after its start."""
        c = cfg.costs
        cores = max(1, self.gpus * c.cores_per_gpu)
        moved = (self.read + self.written) / c.disk_bytes_per_second
        return c.small_job_seconds + max(self.cpu / cores, self.gpu / max(1, self.gpus), moved)


def points(cfg: Config, dataset: str) -> float:
    """Samples of a whole data set: as configured, or assumed where it is built."""
    block = {**cfg.pools, **cfg.sets}[dataset]
    if isinstance(block, Outside):
        return block.samples
    return cfg.costs.built_samples * getattr(block, "shards", 1)


def shard_points(cfg: Config, dataset: str) -> float:
    """Samples of one shard, on average."""
    return points(cfg, dataset) / getattr(cfg.pools.get(dataset), "shards", 1)


def test_images(cfg: Config) -> float:
    return sum(points(cfg, name) for name in cfg.test_sets)


def kept_share(cfg: Config, split: str) -> float:
    """Share of the pool that a split keeps, where its size is known before; else 1."""
    share = cfg.splits[split].share(points(cfg, cfg.pool))
    return UNKNOWN_SHARE if share is None else share


def _vectors(cfg: Config, rows: float) -> float:
    """Bytes of float16 embeddings."""
    return rows * cfg.costs.dimensions * 2


def _products(cfg: Config, pairs: float) -> float:
    """GPU-seconds of the dot products of pairs of embeddings."""
    c = cfg.costs
    return pairs * 2 * c.dimensions / (c.gpu_flops * c.similarity_share)


def _rows(cfg: Config, rows: float) -> float:
    """Core-seconds of table work."""
    return rows / cfg.costs.cpu_rows_per_second


def _folder_pool(cfg: Config, w: Mapping[str, str]) -> Work:
    n = shard_points(cfg, w["pool"])
    return Work(cpu=_rows(cfg, n), read=n * cfg.costs.row_bytes, written=n * cfg.costs.row_bytes)


def _set(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, w["testset"]), cfg.costs
    return Work(n / c.cpu_pictures_per_second, read=n * c.picture_bytes, written=n * c.row_bytes)


def _pool_shard(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["pool"]), cfg.costs
    size = n * c.picture_bytes
    return Work(n / c.cpu_pictures_per_second, read=size, written=size)


def embed_rate(cfg: Config, encoder: str) -> float:
    """Images per second and GPU: the slower of preparing them and of the encoder."""
    c = cfg.costs
    if not cfg.encoders[encoder].costs_embed_flops:
        return c.embed_per_second
    return min(c.embed_per_second, c.gpu_flops * c.encoder_share / c.embed_flops)


def _embed(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    return Work(
        cpu=n / c.cpu_pictures_per_second,
        gpu=n / embed_rate(cfg, w["encoder"]),
        read=2 * n * c.picture_bytes,  # once more to verify a few rows
        written=_vectors(cfg, n) + n * c.row_bytes,
    )


def _embedding_index(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["dataset"])
    return Work(n / cfg.costs.cpu_rows_per_second, read=n * KEY, written=n * KEY)


def _folder_embeddings(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    size = _vectors(cfg, n) + n * c.row_bytes
    return Work(n / c.cpu_rows_per_second, read=size + _vectors(cfg, n), written=size)


def _dedup_fit(cfg: Config, w: Mapping[str, str]) -> Work:
    block, n = cfg.dedup, points(cfg, w["pool"])
    pairs = block.sample * block.clusters * block.iterations
    return Work(gpu=_products(cfg, pairs), read=min(_vectors(cfg, n), block.sample * PAGE))


def _dedup_assign(cfg: Config, w: Mapping[str, str]) -> Work:
    n = shard_points(cfg, w["pool"])
    gpu = _products(cfg, n * cfg.dedup.clusters)
    return Work(gpu=gpu, read=_vectors(cfg, n), written=4 * n)  # an int32 a row


def _dedup_score(cfg: Config, w: Mapping[str, str]) -> Work:
    n, block = points(cfg, w["pool"]), cfg.dedup
    job_points = n / block.jobs
    # Pairs within clusters, each once; that clusters differ in size makes more of them.
    pairs = cfg.costs.cluster_spread * n * n / block.clusters / 2 / block.jobs
    read = min(_vectors(cfg, n), job_points * PAGE) + n * cfg.costs.row_bytes
    written = 2 * _vectors(cfg, job_points) + job_points * cfg.costs.score_bytes
    return Work(_rows(cfg, n), _products(cfg, pairs), read, written)


def _dedup_apply(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["pool"]) / cfg.dedup.jobs
    size = n * cfg.costs.score_bytes
    return Work(_rows(cfg, n), read=size, written=size)


def _dedup_check(cfg: Config, w: Mapping[str, str]) -> Work:
    n = points(cfg, w["pool"])
    return Work(gpu=_products(cfg, n * cfg.dedup.check), read=_vectors(cfg, n))


def _thresholds(cfg: Config, w: Mapping[str, str]) -> Work:
    tests = points(cfg, w["testset"]) if "testset" in w else test_images(cfg)
    reference = points(cfg, w.get("dataset", cfg.reference))
    read = _vectors(cfg, reference + tests)
    return Work(gpu=_products(cfg, reference * tests), read=read)


def _margins(cfg: Config, w: Mapping[str, str]) -> Work:
    """Of one test set, or of all where one job compares with them all."""
    sets = [w["testset"]] if "testset" in w else cfg.test_sets
    tests = sum(points(cfg, name) for name in sets)
    n = shard_points(cfg, w["piece"].split("/")[1])
    written = n * len(sets) * cfg.costs.score_bytes
    read = _vectors(cfg, n + tests)
    return Work(gpu=_products(cfg, n * tests), read=read, written=written)


def _neighbours(cfg: Config, w: Mapping[str, str]) -> Work:
    base = w["base"] if w["base"] in {**cfg.pools, **cfg.sets} else cfg.pool
    n, tests = points(cfg, base), points(cfg, w["testset"])
    return Work(_rows(cfg, n), _products(cfg, n * tests), _vectors(cfg, n))


def _split(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    sets = len(cfg.splits[w["split"]].driving_sets())
    read = n * (c.row_bytes + c.score_bytes * (1 + sets))
    return Work(_rows(cfg, n * (2 + sets)), read=read, written=n * c.row_bytes)


def _train(cfg: Config, w: Mapping[str, str]) -> Work:
    c, block, share = cfg.costs, cfg.models[w["model"]], kept_share(cfg, w["split"])
    samples = block.on(round(share * points(cfg, cfg.pool))).samples
    gpu = samples / c.train_samples_per_gpu_hour * 3600
    seen = samples * c.picture_bytes
    if block.read == "filter":  # what is not kept is read, too
        return Work(gpu=gpu, read=seen / share)
    copy = points(cfg, cfg.pool) * share * c.picture_bytes
    whole = points(cfg, cfg.pool) * c.picture_bytes
    return Work(gpu=gpu, read=seen + whole, written=copy)


def _logits(cfg: Config, w: Mapping[str, str]) -> Work:
    """Of one test set, or of all where one job makes them all; a probe is fitted first."""
    sets = [w["testset"]] if "testset" in w else cfg.test_sets
    n, c = sum(points(cfg, name) for name in sets), cfg.costs
    read = 2 * n * c.picture_bytes  # labels are checked first
    head = cfg.causes.heads.get(w["evaluation"].rpartition("-")[2])
    if isinstance(head, LinearHead):
        n += head.most
        read += points(cfg, cfg.pool) * c.picture_bytes
    return Work(2 * n / c.cpu_pictures_per_second, n / c.embed_per_second, read)


def _guard(cfg: Config, w: Mapping[str, str]) -> Work:
    """The bytes of a split's samples against those of the test images."""
    n = points(cfg, cfg.pool)
    return Work(_rows(cfg, n), read=n * cfg.costs.row_bytes)


def _labelled(cfg: Config) -> float:
    """Images of the data sets that domain classifiers learn from."""
    return sum(points(cfg, name) for name in cfg.domains.labels.datasets) if cfg.domains else 0


def _domain_tune(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = _labelled(cfg), cfg.costs
    block = cfg.domains.classifiers[w["classifier"]] if cfg.domains else None
    passes, ternary = (block.passes, block.form == "ternary") if block else (1, False)
    # A pass forward and back, by about three forward ones.
    seen = n * passes * (1 if ternary else 4)
    flops = c.gpu_flops * c.encoder_share
    return Work(seen / c.cpu_pictures_per_second, 3 * seen * c.tuned_flops / flops,
                n * c.picture_bytes)  # fmt: skip


def _domain_score_images(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = shard_points(cfg, w["dataset"]), cfg.costs
    block = cfg.domains.classifiers[w["classifier"]] if cfg.domains else None
    models = 1 if block and block.form == "ternary" else 2
    rate = min(c.embed_per_second, c.gpu_flops * c.encoder_share / (models * c.tuned_flops))
    written = n * c.score_bytes
    return Work(n / c.cpu_pictures_per_second, n / rate, n * c.picture_bytes, written)


def _domain_rows(cfg: Config, w: Mapping[str, str]) -> Work:
    """Scores by embeddings, and decisions, of a shard."""
    n = shard_points(cfg, w["dataset"])
    return Work(_rows(cfg, n), read=_vectors(cfg, n), written=n * cfg.costs.score_bytes)


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
    return Work(_rows(cfg, n), read=n * c.row_bytes, written=n * c.row_bytes)


def _chosen(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    return Work(_rows(cfg, 2 * n), read=2 * n * c.row_bytes, written=n * c.row_bytes)


def _train_controlled(cfg: Config, w: Mapping[str, str]) -> Work:
    """As a CLIP training; SimCLR sees two views. Without text it is an upper bound."""
    c, spec = cfg.costs, cfg.causes.models[w["model"]]
    block, share = training(cfg, w["model"]), kept_share(cfg, w["split"])
    samples = block.on(round(share * points(cfg, cfg.pool))).samples
    gpu = spec.views * samples / c.train_samples_per_gpu_hour * 3600
    seen, whole = (n * c.picture_bytes for n in (samples, points(cfg, cfg.pool)))
    if block.read == "filter":
        # A classifier finds its images by place; CLIP's filter reads what it does not keep, too.
        read = seen / share if spec.trainer == "clip" else seen
        return Work(gpu=gpu, read=read)
    return Work(gpu=gpu, read=seen + whole, written=whole * share)


def _labels(cfg: Config, w: Mapping[str, str]) -> Work:
    n, c = points(cfg, cfg.pool), cfg.costs
    return Work(4 * n / c.captions_per_second, read=n * c.row_bytes)


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
    "thresholds": _thresholds,
    "margins": _margins,
    "neighbours": _neighbours,
    "split": _split,
    "train": _train,
    "guard": _guard,
    "logits": _logits,
    "caption_reference": _caption,
    "domain_tune": _domain_tune,
    "domain_score_images": _domain_score_images,
    "domain_score": _domain_rows,
    "domain_decisions": _domain_rows,
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
    return replace(work, cpu=work.cpu + cfg.costs.small_job_seconds, gpus=gpus)
