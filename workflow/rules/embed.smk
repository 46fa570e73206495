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
        **needs(32000, 240, gpus=1),
    params:
        **call(
            "similarity.embed.shard",
            encoder=lambda w: cfg.encoders[w.encoder],
            tars=lambda w: [at.tars(w.dataset, w.shard)],
            out="results/embeddings/{encoder}/{dataset}",
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
        **needs(4000, 120),
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
        **needs(3000, 60),
    params:
        **call(
            "similarity.external_embeddings.pick",
            folder=lambda w: at.embedding_folder(w.encoder, w.dataset),
            out="results/embeddings/{encoder}/{dataset}",
        ),
    shell:
        RUN
