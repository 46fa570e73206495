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


# Tars of what some splits keep, which their trainings read instead of the pool.
#   in   the pool's tars and sample tables, the splits
#   out  results/reshard/{reshard}/{shard}.parquet (`key`, in the order of the tars), {shard}.json
#        manifest.json, which names the tars {shard}-{number}.tar beside it. No rule declares them:
#        their record is what counts, and `rm -r results/reshard/{reshard}` plans nothing.


localrules:
    reshard_manifest,


rule reshard:
    """Copy what some splits keep of a shard of the pool, as it is, into tars of equal size."""
    input:
        tars=lambda w: there([at.tars(cfg.pool, w.shard)]),
        table=lambda w: at.table(cfg.pool, w.shard),
        splits=lambda w: reading.splits(w.reshard),
    output:
        "results/reshard/{reshard}/{shard}.parquet",
        counts="results/reshard/{reshard}/{shard}.json",
    log:
        "results/logs/reshard/{reshard}.{shard}.log",
    benchmark:
        "results/benchmarks/reshard/{reshard}.{shard}.tsv"
    resources:
        **needs(4000),
    params:
        **call(
            "splits.reshard.shard",
            tars=lambda w: [at.tars(cfg.pool, w.shard)],
            samples=lambda w: cfg.reshard[w.reshard].samples,
        ),
    shell:
        RUN


rule reshard_manifest:
    """The tars of all shards, and what of them each split keeps."""
    input:
        counts=lambda w: [
            f"results/reshard/{w.reshard}/{s}.json" for s in at.shards(cfg.pool)
        ],
        tables=lambda w: [
            f"results/reshard/{w.reshard}/{s}.parquet" for s in at.shards(cfg.pool)
        ],
    output:
        "results/reshard/{reshard}/manifest.json",
    log:
        "results/logs/reshard/{reshard}.manifest.log",
    params:
        **call("splits.reshard.sum_shards"),
    shell:
        RUN
