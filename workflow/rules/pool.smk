# Pools: sources -> shards of image-caption pairs.
#   in   results/sources/{source}/samples.{tar,parquet}
#   out  results/pools/{pool}/{shard}.tar, {shard}.parquet, {shard}.json, manifest.json


localrules:
    pool_manifest,


rule pool_shard:
    """Write one shard."""
    input:
        lambda w: at.source_files(w.pool),
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        account="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.pool_pattern(),
    resources:
        **needs(1500, 30),
    params:
        **call(
            "datasets.pool.shard",
            pool=lambda w: cfg.pools[w.pool],
            classes=lambda w: cfg.class_paths(cfg.pools[w.pool]),
            holdout=cfg.holdout,
            sources=lambda w: at.source_folders(w.pool),
        ),
    shell:
        RUN


rule pool_manifest:
    """Sum the shards' counts; refuse a key that occurs twice."""
    input:
        accounts=lambda w: [
            f"results/pools/{w.pool}/{s}.json" for s in at.shards(w.pool)
        ],
        tables=lambda w: [at.table(w.pool, s) for s in at.shards(w.pool)],
    output:
        "results/pools/{pool}/manifest.json",
    log:
        "results/logs/pool/{pool}.manifest.log",
    params:
        **call("datasets.pool.sum_shards"),
    shell:
        RUN
