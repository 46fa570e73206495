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
        mem_mb=grows(1500),
        runtime=grows(30),
    params:
        pool=lambda w: as_json(cfg.pools[w.pool]),
        classes=lambda w: as_json(cfg.class_paths(cfg.pools[w.pool])),
        holdout=lambda w: as_json(cfg.holdout),
        sources=lambda w: at.source_arguments(w.pool),
        version=version_of("pool"),
    shell:
        "python -m clipshift.datasets.pool shard --pool {params.pool:q} --classes {params.classes:q}"
        " --holdout {params.holdout:q} {params.sources}"
        " --shard {wildcards.shard} --out {output.tar} > {log} 2>&1"


rule pool_manifest:
    """Add up the shards' accounts; refuse a key that occurs twice."""
    input:
        accounts=lambda w: [
            f"results/pools/{w.pool}/{s}.json" for s in at.shards(w.pool)
        ],
        tables=lambda w: [at.table(w.pool, s) for s in at.shards(w.pool)],
    output:
        "results/pools/{pool}/manifest.json",
    log:
        "results/logs/pool/{pool}.manifest.log",
    shell:
        "python -m clipshift.datasets.pool manifest --name {wildcards.pool} --out {output}"
        " {input.accounts} > {log} 2>&1"
