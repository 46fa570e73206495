# Splits: stored scores -> which pool points are kept, and why the others are not.
#   in   the pool's sample tables, de-duplication scores, margins of the driving test sets
#   out  results/splits/{split}.parquet, {split}.json (account), and exports for other tools:
#        {split}.keys.npy, {split}.subset_u8u8.npy (DataComp), {split}.sizes.json (open_clip)


def driving_sets(split):
    return getattr(cfg.splits[split], "sets", [])


def margin_files(testset):
    folder = f"results/margins/{cfg.encoder}/{cfg.pool}/{testset}"
    return [f"{folder}/{shard}.parquet" for shard in shards_of(cfg.pool)]


def threshold_file(testset):
    return f"results/thresholds/{cfg.encoder}/{cfg.reference}/{testset}.parquet"


def score_arguments(split):
    words = []
    for name in driving_sets(split):
        words.append(f"--margins {name}={','.join(margin_files(name))}")
        words.append(f"--thresholds {name}={threshold_file(name)}")
    return " ".join(words)


def like_file(split):
    """Account of the split that this one is to be as large as, if any."""
    keep = getattr(cfg.splits[split], "keep", None)
    return [f"results/splits/{keep}.json"] if isinstance(keep, str) else []


rule split:
    """Make one split: a query over stored scores."""
    input:
        pool=[table_of(cfg.pool, s) for s in shards_of(cfg.pool)],
        dedup=f"results/dedup/{cfg.pool}/{cfg.encoder}.parquet",
        margins=lambda w: [
            f for name in driving_sets(w.split) for f in margin_files(name)
        ],
        thresholds=lambda w: [threshold_file(name) for name in driving_sets(w.split)],
        like=lambda w: like_file(w.split),
        reference=lambda w: (
            [table_of(cfg.reference, "00000")] if cfg.splits[w.split].reference else []
        ),
    output:
        "results/splits/{split}.parquet",
        "results/splits/{split}.json",
        "results/splits/{split}.keys.npy",
        "results/splits/{split}.subset_u8u8.npy",
        "results/splits/{split}.sizes.json",
    log:
        "results/logs/splits/{split}.log",
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        recipe=lambda w: as_json(cfg.splits[w.split]),
        dedup=lambda w: as_json(cfg.dedup),
        scores=lambda w: score_arguments(w.split),
        like=lambda w, input: f"--like {input.like}" if input.like else "",
        version=version_of("splits"),
    shell:
        "python -m clipshift.splits --recipe {params.recipe:q} --dedup-rule {params.dedup:q}"
        " --pool {input.pool} --dedup {input.dedup} {params.scores}"
        " {params.like} --reference {input.reference} --out {output[0]} > {log} 2>&1"
