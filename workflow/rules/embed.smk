# Embeddings: shards of a pool or a set -> vectors, in clip-retrieval's layout.
#   in   the shard's tars and sample table
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
    resources:
        mem_mb=grows(3000),
        runtime=grows(60),
    params:
        encoder=lambda w: as_json(cfg.encoders[w.encoder]),
        tars=lambda w: tar_arguments([at.tars(w.dataset, w.shard)]),
        version=version_of("embed"),
    shell:
        "python -m clipshift.embed --encoder {params.encoder:q} {params.tars}"
        " --table {input.table} --shard {wildcards.shard}"
        " --out results/embeddings/{wildcards.encoder}/{wildcards.dataset} > {log} 2>&1"
