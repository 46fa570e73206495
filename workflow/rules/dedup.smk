# De-duplication: the pool's embeddings -> clusters -> scores -> who is dropped -> record.
#   in   embeddings of the pool
#   out  results/dedup/{pool}/{encoder}/centroids.npy (C, D) float16, clusters/{shard}.npy (N,)
#        scores/{group}.parquet   key, cluster, similarity, nearest_key (of an earlier point)
#        pairs/{group}.parquet    key, earlier_key, similarity, copy (where `pairs_above` is set)
#        dropped/{group}.parquet  key, dropped, similarity, duplicate_of
#        check.parquet, record.json, sweep.csv
# Scores know neither rule nor threshold: another one recomputes `dropped` only.
DEDUP = "results/dedup/{pool}/{encoder}"
DEDUP_LOG = "results/logs/dedup/{pool}.{encoder}"


rule dedup_fit:
    """Clusters of a seeded sample."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder),
    output:
        f"{DEDUP}/centroids.npy",
    log:
        f"{DEDUP_LOG}.fit.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.fit.tsv"
    resources:
        mem_mb=grows(3000),
        runtime=grows(120),
    params:
        shards=lambda w: at.shards(w.pool),
        fit=lambda w: at.fit_arguments(),
        version=version_of("dedup_clusters"),
    shell:
        "python -m clipshift.similarity.dedup.clusters fit {params.fit}"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shards {params.shards} --out {output} > {log} 2>&1"


rule dedup_assign:
    """The cluster of each point of a shard."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder, [w.shard]),
        centroids=f"{DEDUP}/centroids.npy",
    output:
        f"{DEDUP}/clusters/{{shard}}.npy",
    log:
        f"{DEDUP_LOG}.assign.{{shard}}.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.assign.{shard}.tsv"
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        version=version_of("dedup_clusters"),
    shell:
        "python -m clipshift.similarity.dedup.clusters assign --centroids {input.centroids}"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shard {wildcards.shard} --out {output} > {log} 2>&1"


rule dedup_score:
    """Each point's largest similarity to an earlier one of its cluster, for a group of clusters."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder),
        clusters=lambda w: at.clusters(w.pool, w.encoder),
    output:
        scores=f"{DEDUP}/scores/{{group}}.parquet",
        pairs=f"{DEDUP}/pairs/{{group}}.parquet",
    log:
        f"{DEDUP_LOG}.score.{{group}}.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.score.{group}.tsv"
    resources:
        mem_mb=grows(3000),
        runtime=grows(120),
    params:
        shards=lambda w: at.shards(w.pool),
        jobs=cfg.dedup.jobs,
        floor=lambda w: at.floor_argument(),
        version=version_of("dedup_scores"),
    shell:
        "python -m clipshift.similarity.dedup.scores --group {wildcards.group} --jobs {params.jobs}"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shards {params.shards} --clusters {input.clusters} {params.floor}"
        " --pairs {output.pairs} --out {output.scores} > {log} 2>&1"


rule dedup_apply:
    """Who is dropped: the rule and its threshold."""
    input:
        scores=f"{DEDUP}/scores/{{group}}.parquet",
        pairs=f"{DEDUP}/pairs/{{group}}.parquet",
    output:
        f"{DEDUP}/dropped/{{group}}.parquet",
    log:
        f"{DEDUP_LOG}.apply.{{group}}.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.apply.{group}.tsv"
    resources:
        mem_mb=grows(2000),
        runtime=grows(20),
    params:
        rule=cfg.dedup.rule,
        threshold=cfg.dedup.threshold,
        version=version_of("dedup_rules"),
    shell:
        "python -m clipshift.similarity.dedup.rules --scores {input.scores} --pairs {input.pairs}"
        " --rule {params.rule} --threshold {params.threshold} --out {output} > {log} 2>&1"


rule dedup_check:
    """Exact earlier neighbours of a seeded sample, over the whole pool."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder),
    output:
        f"{DEDUP}/check.parquet",
    log:
        f"{DEDUP_LOG}.check.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.check.tsv"
    resources:
        mem_mb=grows(2000),
        runtime=grows(120),
    params:
        shards=lambda w: at.shards(w.pool),
        size=cfg.dedup.check,
        seed=cfg.dedup.seed,
        version=version_of("dedup_check"),
    shell:
        "python -m clipshift.similarity.dedup.check --size {params.size} --seed {params.seed}"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shards {params.shards} --out {output} > {log} 2>&1"


rule dedup_record:
    """Counts, recall and precision with intervals, and a sweep of thresholds."""
    input:
        scores=at.duplicates("scores"),
        pairs=at.duplicates("pairs"),
        check=f"results/dedup/{cfg.pool}/{cfg.encoder}/check.parquet",
    output:
        record=f"results/dedup/{cfg.pool}/{cfg.encoder}/record.json",
        sweep=f"results/dedup/{cfg.pool}/{cfg.encoder}/sweep.csv",
    log:
        f"results/logs/dedup/{cfg.pool}.{cfg.encoder}.record.log",
    benchmark:
        f"results/benchmarks/dedup/{cfg.pool}.{cfg.encoder}.record.tsv"
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        pool=cfg.pool,
        dedup=lambda w: as_json(cfg.dedup.model_dump(mode="json", exclude={"embed"})),
        version=version_of("dedup_record"),
    shell:
        "python -m clipshift.similarity.dedup.record --name {params.pool} --dedup {params.dedup:q}"
        " --check {input.check} --scores {input.scores} --pairs {input.pairs}"
        " --out {output.record} > {log} 2>&1"
