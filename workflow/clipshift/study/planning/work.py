"""What a job does, and what a study's data measure: the ground of the cost model (`costs`)."""

from dataclasses import dataclass

from clipshift.study.config.costs import Costs
from clipshift.study.config.folders import Outside
from clipshift.study.config.study import Config

# A page of a mapped file: the least that a row costs to read.
PAGE = 4096
# Bytes of a key or URL in an index, compressed.
KEY = 20


@dataclass(frozen=True)
class Work:
    """Work of one job: seconds of one core, seconds of one GPU, bytes; and the GPUs it holds.

    Attributes:
        scratch: bytes of `written` that are gone when the job ends.
        memory: bytes; gpu_memory: bytes on each GPU. 0: as small as any job's.
        parts: parts after each of which the job can be stopped and go on; 0: it starts anew.
        factor: on its time, as measured (`costs.calibration`).
    """

    cpu: float = 0.0
    gpu: float = 0.0
    read: float = 0.0
    written: float = 0.0
    gpus: int = 0
    scratch: float = 0.0
    memory: float = 0.0
    gpu_memory: float = 0.0
    parts: int = 0
    factor: float = 1.0

    def seconds(self, cfg: Config) -> float:
        """Wall-clock time of the job: its slowest part, after its start."""
        c = cfg.costs
        cores = max(1, self.gpus * c.cores_per_gpu)
        moved = (self.read + self.written) / c.disk_bytes_per_second
        slowest = max(self.cpu / cores, self.gpu / max(1, self.gpus), moved)
        return (c.small_job_seconds + slowest) * self.factor


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
    """Share of the pool that a split keeps: its size, or what is assumed where it is not known."""
    block = cfg.splits[split]
    outer = kept_share(cfg, block.within) if block.within else 1.0
    share = block.share(outer * points(cfg, cfg.pool))
    return outer * (cfg.costs.kept_share if share is None else share)


def union_share(cfg: Config, name: str) -> float:
    """Share of the pool that the splits of a block of `reshard` keep together, at most.

    What splits by domain draw is nested.
    """
    splits = {split: cfg.splits[split].domain_counts for split in cfg.reshard[name].splits}
    drawn = [counts for counts in splits.values() if counts]
    most: float = sum(map(max, zip(*drawn, strict=True))) / points(cfg, cfg.pool)
    others = [split for split, counts in splits.items() if not counts]
    # Splits whose size is not known before hold what the others do.
    whole = cfg.costs.kept_share if any(cfg.splits[s].size is None for s in others) else 1.0
    return min(whole, most + sum(kept_share(cfg, split) for split in others))


def read_share(cfg: Config, split: str) -> float:
    """Share of the pool that the trainings of a split read."""
    group = cfg.group_of(split)
    return union_share(cfg, group) if group else 1.0


def vectors(cfg: Config, rows: float) -> float:
    """Bytes of float16 embeddings."""
    return rows * cfg.costs.dimensions * 2


def products(cfg: Config, pairs: float) -> float:
    """GPU-seconds of the dot products of pairs of embeddings."""
    c = cfg.costs
    return pairs * 2 * c.dimensions / (c.gpu_flops * c.similarity_share)


def row_work(cfg: Config, rows: float) -> float:
    """Core-seconds of table work."""
    return rows / cfg.costs.cpu_rows_per_second


def reached(c: Costs, precision: str) -> float:
    """Operations per second that a network reaches on a GPU.

    Args:
        precision: a key of an encoder or a training; `tf32` is float32 where tensor cores may
            round it, as open_clip's program allows them to, and torch by itself does not.
    """
    if precision == "fp32":
        return c.gpu_flops_fp32 * c.fp32_share
    return (c.gpu_flops_tf32 if precision == "tf32" else c.gpu_flops) * c.encoder_share
