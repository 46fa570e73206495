# Similarity: embeddings -> de-duplication scores, thresholds, margins.
#   in   embeddings of the pool, the reference set and the test sets
#   out  results/dedup/{pool}/{encoder}.parquet              key, similarity, nearest_key
#        results/thresholds/{encoder}/{dataset}/{testset}.parquet
#        results/margins/{encoder}/{pool}/{testset}/{shard}.parquet and {shard}.nearest.parquet


rule dedup:
    """Each pool point's largest similarity to an earlier one (by key)."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder),
    output:
        "results/dedup/{pool}/{encoder}.parquet",
    log:
        "results/logs/dedup/{pool}.{encoder}.log",
    benchmark:
        "results/benchmarks/dedup/{pool}.{encoder}.tsv"
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        shards=lambda w: at.shards(w.pool),
        version=version_of("dedup"),
    shell:
        "python -m clipshift.dedup --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shards {params.shards} --out {output} > {log} 2>&1"


rule thresholds:
    """Per test image, its similarity to the reference set."""
    input:
        lambda w: at.embeddings(w.dataset, w.encoder),
        lambda w: at.embeddings(w.testset, w.encoder),
    output:
        "results/thresholds/{encoder}/{dataset}/{testset}.parquet",
    log:
        "results/logs/thresholds/{encoder}.{dataset}.{testset}.log",
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        version=version_of("margins"),
    shell:
        "python -m clipshift.margins reference"
        " --reference results/embeddings/{wildcards.encoder}/{wildcards.dataset}"
        " --tests results/embeddings/{wildcards.encoder}/{wildcards.testset}"
        " --out {output} > {log} 2>&1"


rule margins:
    """Per point of a pool shard its similarity to a test set, and its largest margin."""
    input:
        lambda w: at.embeddings(w.pool, w.encoder, [w.shard]),
        lambda w: at.embeddings(w.testset, w.encoder),
        thresholds=f"results/thresholds/{{encoder}}/{cfg.reference}/{{testset}}.parquet",
    output:
        margins="results/margins/{encoder}/{pool}/{testset}/{shard}.parquet",
        nearest="results/margins/{encoder}/{pool}/{testset}/{shard}.nearest.parquet",
    log:
        "results/logs/margins/{encoder}.{pool}.{testset}.{shard}.log",
    benchmark:
        "results/benchmarks/margins/{encoder}.{pool}.{testset}.{shard}.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        version=version_of("margins"),
    shell:
        "python -m clipshift.margins shard"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.pool}"
        " --shard {wildcards.shard} --thresholds {input.thresholds}"
        " --tests results/embeddings/{wildcards.encoder}/{wildcards.testset}"
        " --nearest {output.nearest} --out {output.margins} > {log} 2>&1"
