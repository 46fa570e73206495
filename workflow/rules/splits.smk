# Splits: stored scores -> which pool points are kept, and why the others are not.
#   in   the pool's sample tables, its duplicates, margins of the driving test sets; for splits
#        by domain results/domains/{name}/decisions/ of pool and reference set
#   out  results/splits/{split}.parquet, {split}.json (counts), and exports for other tools:
#        {split}.keys.npy, {split}.subset_u8u8.npy (DataComp), {split}.sizes.json (open_clip)


rule split:
    """Make one split: a query over stored scores."""
    input:
        pool=at.pool_tables(),
        embedded=at.embedded(),
        margins=lambda w: at.split_margins(w.split),
        thresholds=lambda w: list(at.split_thresholds(w.split).values()),
        decisions=lambda w: dom.split_decisions(w.split),
        like=lambda w: at.like(w.split),
        reference=lambda w: at.reference_tables(w.split),
    output:
        "results/splits/{split}.parquet",
        counts="results/splits/{split}.json",
        key_list="results/splits/{split}.keys.npy",
        datacomp="results/splits/{split}.subset_u8u8.npy",
        sizes="results/splits/{split}.sizes.json",
    log:
        "results/logs/splits/{split}.log",
    benchmark:
        "results/benchmarks/splits/{split}.tsv"
    resources:
        **needs(64000),
    params:
        **call(
            "splits.split.split",
            recipe=lambda w: at.recipe(w.split),
            pool=lambda w: compact(at.pool_tables()),
            embedded=lambda w: compact(at.embedded()),
            margins=lambda w: at.margin_ranges(at.driving_sets(w.split)),
            thresholds=lambda w: at.split_thresholds(w.split),
            decisions=lambda w: compact(dom.split_decisions(w.split)),
            reference=lambda w: at.reference_tables(w.split),
            reference_margins=lambda w: at.margin_ranges(
                at.reference_driving_sets(w.split), cfg.reference
            ),
        ),
    shell:
        RUN


# Test images among the samples of a split, and the samples that a corpus of captions can use.
#   out  results/guard/{split}.parquet, {split}.json
#        results/chosen/{split}-{corpus}.parquet, and its counts .json


rule guard:
    """Test images among the samples of a split.

    A list waits for the test sets when it is first made. A set that comes later plans neither it
    nor a training; `--forcerun guard` makes lists, and the trainings on them, anew.
    """
    input:
        split="results/splits/{split}.parquet",
        tests=lambda w: at.guard_waits_for(w.split),
    output:
        "results/guard/{split}.parquet",
        counts="results/guard/{split}.json",
    log:
        "results/logs/guard/{split}.log",
    resources:
        **needs(3000),
    params:
        **call(
            "splits.guard.write_list",
            # Of no rerun's concern: parameters that take `input` trigger none.
            tests=lambda w, input: {n: at.table(n) for n in at.guarded(w.split)},
        ),
    shell:
        RUN


rule chosen:
    """The images of a split that a corpus can use: the same for every model that reads it."""
    input:
        corpora=lambda w: causes.corpora(w.split, w.corpus),
        split="results/splits/{split}.parquet",
        guard="results/guard/{split}.parquet",
    output:
        "results/chosen/{split}-{corpus}.parquet",
        counts="results/chosen/{split}-{corpus}.json",
    log:
        "results/logs/chosen/{split}-{corpus}.log",
    resources:
        **needs(64000),
    params:
        **call(
            "splits.usable.choose",
            corpora=lambda w: compact(causes.corpora(w.split, w.corpus)),
            guard=lambda w: at.guard(w.split) if cfg.guard == "drop" else None,
        ),
    shell:
        RUN
