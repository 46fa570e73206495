# Similarity: embeddings -> thresholds, margins, neighbours.
#   in   embeddings of the pool, the reference set and the test sets
#   out  results/thresholds/{encoder}/{dataset}/{testset}.parquet
#        results/margins/{encoder}/{dataset}/{testset}/{shard}.parquet, certificates/{shard}.json
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
        mem_mb=grows(1500),
        runtime=grows(20),
    params:
        version=version_of("margins"),
    shell:
        "python -m clipshift.margins reference"
        " --reference results/embeddings/{wildcards.encoder}/{wildcards.dataset}"
        " --tests results/embeddings/{wildcards.encoder}/{wildcards.testset}"
        " --out {output} > {log} 2>&1"


rule margins:
    """Per point of a shard its similarity to each test set, and its largest margin, in one pass."""
    input:
        lambda w: at.embeddings(w.dataset, w.encoder, [w.shard]),
        lambda w: [f for t in cfg.test_sets for f in at.embeddings(t, w.encoder)],
        thresholds=lambda w: [at.thresholds(t, w.encoder) for t in cfg.test_sets],
    output:
        tables=[
            f"results/margins/{{encoder}}/{{dataset}}/{t}/{{shard}}.parquet"
            for t in cfg.test_sets
        ],
        certificate="results/margins/{encoder}/{dataset}/certificates/{shard}.json",
    log:
        "results/logs/margins/{encoder}.{dataset}.{shard}.log",
    benchmark:
        "results/benchmarks/margins/{encoder}.{dataset}.{shard}.tsv"
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        sides=lambda w, output: at.side_arguments(w.encoder, output.tables),
        version=version_of("margins"),
    shell:
        "python -m clipshift.margins shard"
        " --pool results/embeddings/{wildcards.encoder}/{wildcards.dataset}"
        " --shard {wildcards.shard} {params.sides}"
        " --certificate {output.certificate} > {log} 2>&1"


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
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        dataset=lambda w: at.base_shards(w.base)[0],
        shards=lambda w: at.base_shards(w.base)[1],
        split=lambda w, input: f"--split {input.split}" if input.split else "",
        k=cfg.neighbours.k,
        grid=cfg.neighbours.grid,
        version=version_of("neighbours"),
    shell:
        "python -m clipshift.neighbours"
        " --base results/embeddings/{wildcards.encoder}/{params.dataset}"
        " --shards {params.shards} {params.split} --k {params.k} --grid {params.grid}"
        " --tests results/embeddings/{wildcards.encoder}/{wildcards.testset}"
        " --density {output.density} --out {output.near} > {log} 2>&1"
