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
        **needs(32000, 240, gpus=1),
    params:
        **call(
            "similarity.margins.thresholds",
            reference="results/embeddings/{encoder}/{dataset}",
            tests="results/embeddings/{encoder}/{testset}",
        ),
    shell:
        RUN


# One rule for one test set, and one for every group of sets that a shard has no margins to yet: the
# first time each shard is read once. As in evaluate.smk, a set that comes later touches no other.
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
            piece=pattern(covered) if number else rf"{NAME}/{NAME}/\d{{5}}",
        resources:
            **needs(32000, 240, gpus=1),
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
        **needs(32000, 240, gpus=1),
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
