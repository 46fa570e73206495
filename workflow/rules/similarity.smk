# Embeddings: shards of a pool or a set -> vectors, in clip-retrieval's layout.
#   in   the shard's tars and sample table; or a folder of vectors that the user has
#   out  results/embeddings/{encoder}/{dataset}/img_emb/img_emb_{shard}.npy (N, D) float16,
#        metadata/metadata_{shard}.parquet (row r of both belong together), account/


rule embed:
    """Embed one shard; a few rows are embedded again and compared."""
    input:
        tars=lambda w: there([at.tars(w.dataset, w.shard)]),
        table=lambda w: at.table(w.dataset, w.shard),
        weights=lambda w: at.encoder_files(w.encoder),
        checked=lambda w: at.checked_keys(w.dataset, w.encoder, w.shard),
    output:
        "results/embeddings/{encoder}/{dataset}/img_emb/img_emb_{shard}.npy",
        "results/embeddings/{encoder}/{dataset}/metadata/metadata_{shard}.parquet",
        "results/embeddings/{encoder}/{dataset}/account/account_{shard}.json",
    log:
        "results/logs/embed/{encoder}.{dataset}.{shard}.log",
    benchmark:
        "results/benchmarks/embed/{encoder}.{dataset}.{shard}.tsv"
    wildcard_constraints:
        encoder=at.encoder_pattern(folders=False),
    resources:
        **needs(32000, gpus=1),
    params:
        **call(
            "similarity.embed.shard",
            encoder=lambda w: cfg.encoders[w.encoder],
            tars=lambda w: [at.tars(w.dataset, w.shard)],
            out="results/embeddings/{encoder}/{dataset}",
            **cfg.rendering.shared,
        ),
    shell:
        RUN


rule embedding_index:
    """Where each vector of a folder lies, by name."""
    input:
        lambda w: there([at.embedding_folder(w.encoder, w.dataset)]),
    output:
        "results/embeddings/{encoder}/{dataset}/index.parquet",
        about="results/embeddings/{encoder}/{dataset}/index.json",
    log:
        "results/logs/embed/{encoder}.{dataset}.index.log",
    benchmark:
        "results/benchmarks/embed/{encoder}.{dataset}.index.tsv"
    wildcard_constraints:
        encoder=at.encoder_pattern(folders=True),
    resources:
        **needs(4000),
    params:
        **call(
            "similarity.external_embeddings.index",
            folder=lambda w: at.embedding_folder(w.encoder, w.dataset),
            join=lambda w: cfg.encoders[w.encoder].join,
        ),
    shell:
        RUN


rule folder_embeddings:
    """The vectors of one shard, from the user's folder."""
    input:
        listed="results/embeddings/{encoder}/{dataset}/index.parquet",
        table=lambda w: at.table(w.dataset, w.shard),
        checked=lambda w: at.checked_keys(w.dataset, w.encoder, w.shard),
    output:
        "results/embeddings/{encoder}/{dataset}/img_emb/img_emb_{shard}.npy",
        "results/embeddings/{encoder}/{dataset}/metadata/metadata_{shard}.parquet",
        "results/embeddings/{encoder}/{dataset}/account/account_{shard}.json",
    log:
        "results/logs/embed/{encoder}.{dataset}.{shard}.log",
    benchmark:
        "results/benchmarks/embed/{encoder}.{dataset}.{shard}.tsv"
    wildcard_constraints:
        encoder=at.encoder_pattern(folders=True),
    resources:
        **needs(3000),
    params:
        **call(
            "similarity.external_embeddings.pick",
            folder=lambda w: at.embedding_folder(w.encoder, w.dataset),
            agree=cfg.agree,
            out="results/embeddings/{encoder}/{dataset}",
        ),
    shell:
        RUN


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
        **needs(64000, gpus=1),
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
        **needs(32000, gpus=1),
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
        **needs(32000, gpus=1),
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
        **needs(2000),
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
        **needs(32000, gpus=1),
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
        **needs(2000),
    params:
        **call(
            "similarity.dedup.record.write_record",
            name=cfg.pool,
            dedup=cfg.dedup.model_dump(mode="json", exclude={"embed"}),
        ),
    shell:
        RUN


# Similarity: embeddings -> thresholds, margins, neighbours.
#   in   embeddings of the pool, the reference set and the test sets
#   out  results/thresholds/{encoder}/{dataset}/{testset}.parquet
#        results/margins/{testset}/{encoder}/{dataset}/{shard}.parquet, and its certificate .json
#        results/neighbours/{encoder}/{base}/{testset}.parquet and {testset}.density.parquet


rule thresholds:
    """Per test image, its similarity to the reference set."""
    input:
        lambda w: at.embeddings(w.dataset, w.encoder),
        lambda w: at.embeddings(w.testset, w.encoder),
    output:
        "results/thresholds/{encoder}/{dataset}/{testset}.parquet",
    log:
        "results/logs/thresholds/{encoder}.{dataset}.{testset}.log",
    benchmark:
        "results/benchmarks/thresholds/{encoder}.{dataset}.{testset}.tsv"
    resources:
        **needs(32000, gpus=1),
    params:
        **call(
            "similarity.margins.thresholds",
            reference="results/embeddings/{encoder}/{dataset}",
            tests="results/embeddings/{encoder}/{testset}",
        ),
    shell:
        RUN


# One rule for one test set, and one for every group of sets that a shard has no margins to yet: the
# first time each shard is read once. As in evaluation.smk, a set that comes later touches no other.
for number, (sets, covered) in enumerate([(["{testset}"], []), *at.margin_passes()]):

    rule:
        """Per point of a shard its similarity to test sets, and its largest margin, in one pass."""
        name:
            f"margins_{number}" if number else "margins"
        input:
            lambda w: at.embeddings(*at.of_piece(w.piece)),
            lambda w, sets=sets: [
                file
                for s in named(sets, w)
                for file in at.embeddings(s, at.of_piece(w.piece)[1])
            ],
            thresholds=lambda w, sets=sets: [
                at.thresholds(s, at.of_piece(w.piece)[1]) for s in named(sets, w)
            ],
        output:
            [
                f"results/margins/{s}/{{piece}}.{suffix}"
                for s in sets
                for suffix in ("parquet", "json")
            ],
        log:
            f"results/logs/margins/{'{testset}' if not number else number}/{{piece}}.log",
        benchmark:
            f"results/benchmarks/margins/{'{testset}' if not number else number}/{{piece}}.tsv"
        wildcard_constraints:
            piece=compact_pattern(covered) if number else rf"{NAME}/{NAME}/\d{{5}}",
        resources:
            **needs(32000, gpus=1),
        params:
            **call(
                "similarity.margins.shard",
                pool=lambda w: "results/embeddings/{1}/{0}".format(
                    *at.of_piece(w.piece)
                ),
                shard=lambda w: at.of_piece(w.piece)[2][0],
                reference=cfg.reference,
                # Whichever sets share the pass, the files are the same: no parameter of a rerun.
                tests=lambda w, output, sets=sets: at.margin_files(
                    named(sets, w), w.piece
                ),
            ),
        shell:
            RUN

    if number:
        workflow.ruleorder(f"margins_{number}", "margins")


rule neighbours:
    """Per test image its nearest points of a base, and how many lie near."""
    input:
        lambda w: at.embeddings(at.base_shards(w.base)[0], w.encoder),
        lambda w: at.embeddings(w.testset, w.encoder),
        split=lambda w: at.base_split(w.base),
    output:
        near="results/neighbours/{encoder}/{base}/{testset}.parquet",
        density="results/neighbours/{encoder}/{base}/{testset}.density.parquet",
    log:
        "results/logs/neighbours/{encoder}.{base}.{testset}.log",
    benchmark:
        "results/benchmarks/neighbours/{encoder}.{base}.{testset}.tsv"
    resources:
        **needs(32000, gpus=1),
    params:
        **call(
            "similarity.neighbours.neighbours",
            base=lambda w: f"results/embeddings/{w.encoder}/{at.base_shards(w.base)[0]}",
            shards=lambda w: at.base_shards(w.base)[1],
            tests="results/embeddings/{encoder}/{testset}",
            k=cfg.neighbours.k,
            grid=cfg.neighbours.grid,
        ),
    shell:
        RUN
