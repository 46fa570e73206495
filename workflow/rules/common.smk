# The typed configuration, and the few helpers that rules share.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from clipshift import config_load
from clipshift.config import source_packages
from clipshift.errors import ClipshiftError
from clipshift.sets import split_folder
from clipshift.steps import version_of

# Two waiting OpenMP threads on busy cores slow each other down several times.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

try:
    cfg = config_load.parse(config, [Path(f) for f in workflow.configfiles])
except ClipshiftError as error:
    raise WorkflowError(str(error)) from None

NAME = "[a-z0-9][A-Za-z0-9_]*"


wildcard_constraints:
    package=NAME,
    source=NAME,
    pool=NAME,
    testset=NAME,
    dataset=NAME,
    encoder=NAME,
    split=NAME,
    model=NAME,
    seed=r"\d+",
    shard=r"\d{5}",
    figure=NAME,


def shards_of(dataset):
    """Names of the shards of a pool or a set."""
    count = cfg.pools[dataset].shards if dataset in cfg.pools else 1
    return [f"{i:05d}" for i in range(count)]


def tar_of(dataset, shard):
    """The tar of a shard of a pool or a set."""
    if dataset in cfg.pools:
        return f"results/pools/{dataset}/{shard}.tar"
    folder = split_folder(cfg.sets[dataset].role)
    return f"results/sets/{dataset}/{folder}/{int(shard)}.tar"


def table_of(dataset, shard):
    """The sample table of a shard of a pool or a set."""
    if dataset in cfg.pools:
        return f"results/pools/{dataset}/{shard}.parquet"
    return f"results/sets/{dataset}/samples.parquet"


def embeddings_of(dataset, encoder, shards=None):
    """The embedding files of a data set."""
    folder = f"results/embeddings/{encoder}/{dataset}"
    return [
        f"{folder}/{part}_{shard}.{suffix}"
        for shard in shards or shards_of(dataset)
        for part, suffix in (
            ("img_emb/img_emb", "npy"),
            ("metadata/metadata", "parquet"),
        )
    ]


def sources_of(dataset):
    """Names of the sources of a pool or a set."""
    block = cfg.pools.get(dataset) or cfg.sets[dataset]
    return sorted({take.source for take in block.take})


def source_files(dataset):
    """The files of a data set's sources."""
    return [
        f"results/sources/{source}/samples.{suffix}"
        for source in sources_of(dataset)
        for suffix in ("tar", "parquet")
    ]


def source_arguments(dataset):
    """The command line's words for a data set's sources."""
    return " ".join(f"--source {s}=results/sources/{s}" for s in sources_of(dataset))


def as_json(value):
    """A block of the configuration as one word of a command line."""
    import json

    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=False)
