# Splits: stored scores -> which pool points are kept, and why the others are not.
#   in   the pool's sample tables, de-duplication scores, margins of the driving test sets
#   out  results/splits/{split}.parquet, {split}.json (account), and exports for other tools:
#        {split}.keys.npy, {split}.subset_u8u8.npy (DataComp), {split}.sizes.json (open_clip)


rule split:
    """Make one split: a query over stored scores."""
    input:
        pool=at.pool_tables(),
        dedup=at.dedup(),
        margins=lambda w: [
            f for name in at.driving_sets(w.split) for f in at.margins(name)
        ],
        thresholds=lambda w: [at.thresholds(name) for name in at.driving_sets(w.split)],
        like=lambda w: at.like(w.split),
        reference=lambda w: at.reference_tables(w.split),
    output:
        split="results/splits/{split}.parquet",
        account="results/splits/{split}.json",
        key_list="results/splits/{split}.keys.npy",
        datacomp="results/splits/{split}.subset_u8u8.npy",
        sizes="results/splits/{split}.sizes.json",
    log:
        "results/logs/splits/{split}.log",
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        recipe=lambda w: as_json(cfg.splits[w.split]),
        dedup=lambda w: as_json(cfg.dedup),
        scores=lambda w: at.score_arguments(w.split),
        like=lambda w, input: f"--like {input.like}" if input.like else "",
        version=version_of("splits"),
    shell:
        "python -m clipshift.splits --recipe {params.recipe:q} --dedup-rule {params.dedup:q}"
        " --pool {input.pool} --dedup {input.dedup} {params.scores}"
        " {params.like} --reference {input.reference} --out {output.split} > {log} 2>&1"
