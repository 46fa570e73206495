# De-duplication: the pool's embeddings -> clusters -> scores -> dropped points -> record.
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
        **needs(64000, 1440),
    params:
        **call(
            "similarity.dedup.clusters.fit_pool",
            pool="results/embeddings/{encoder}/{pool}",
            shards=lambda w: at.shards(w.pool),
            clusters=cfg.dedup.clusters,
            sample=cfg.dedup.sample,
            iterations=cfg.dedup.iterations,
            seed=cfg.dedup.seed,
        ),
    shell:
        RUN


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
        **needs(32000, 240, gpus=1),
    params:
        **call(
            "similarity.dedup.clusters.assign_shard",
            pool="results/embeddings/{encoder}/{pool}",
        ),
    shell:
        RUN


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
        **needs(32000, 240, gpus=1),
    params:
        **call(
            "similarity.dedup.scores.score_group",
            pool="results/embeddings/{encoder}/{pool}",
            shards=lambda w: at.shards(w.pool),
            jobs=cfg.dedup.jobs,
            floor=cfg.dedup.pairs_above,
        ),
    shell:
        RUN


rule dedup_apply:
    """Which points are dropped: the rule and its threshold."""
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
        **needs(2000, 20),
    params:
        **call(
            "similarity.dedup.rules.apply",
            rule=cfg.dedup.rule,
            threshold=cfg.dedup.threshold,
        ),
    shell:
        RUN


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
        **needs(32000, 240, gpus=1),
    params:
        **call(
            "similarity.dedup.check.check_sample",
            pool="results/embeddings/{encoder}/{pool}",
            shards=lambda w: at.shards(w.pool),
            size=cfg.dedup.check,
            seed=cfg.dedup.seed,
        ),
    shell:
        RUN


rule dedup_record:
    """Counts, recall and precision with intervals, and a sweep of thresholds."""
    input:
        scores=at.duplicates("scores"),
        pairs=at.duplicates("pairs"),
        check=f"results/dedup/{cfg.pool}/{cfg.encoder}/check.parquet",
    output:
        f"results/dedup/{cfg.pool}/{cfg.encoder}/record.json",
        sweep=f"results/dedup/{cfg.pool}/{cfg.encoder}/sweep.csv",
    log:
        f"results/logs/dedup/{cfg.pool}.{cfg.encoder}.record.log",
    benchmark:
        f"results/benchmarks/dedup/{cfg.pool}.{cfg.encoder}.record.tsv"
    resources:
        **needs(2000, 60),
    params:
        **call(
            "similarity.dedup.record.write_record",
            name=cfg.pool,
            dedup=cfg.dedup.model_dump(mode="json", exclude={"embed"}),
        ),
    shell:
        RUN
