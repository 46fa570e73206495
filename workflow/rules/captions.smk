# Captions, and labels found in them.
#   in   packages of sources, sample tables, img2dataset's tables, the user's captions
#   out  results/captions/sources/{source}.parquet, pools/{pool}/{shard}.parquet: title, description,
#        tags; results/corpora/{corpus}/{dataset}/{shard}.parquet: caption and labels, or why not


localrules:
    source_captions,


rule source_captions:
    """Title, description and tags of a source's samples; nothing is rendered again."""
    input:
        samples="results/sources/{source}/samples.parquet",
    output:
        "results/captions/sources/{source}.parquet",
    log:
        "results/logs/captions/{source}.log",
    params:
        **call(
            "datasets.captions.fields.source_fields",
            # Not the files of the rule `fetch`: made anew, they would have every image rendered again.
            packages=lambda w: causes.packages(w.source),
            spec=lambda w: cfg.sources[w.source],
            fields=lambda w: causes.recipe(w.source),
        ),
    shell:
        RUN


rule pool_captions:
    """The same of a group of img2dataset's tars, from its own tables."""
    input:
        lambda w: there([at.tars(w.pool, w.shard)], [".parquet"]),
    output:
        "results/captions/pools/{pool}/{shard}.parquet",
    log:
        "results/logs/captions/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.img2dataset_pattern(),
    resources:
        **needs(2000),
    params:
        **call(
            "datasets.captions.fields.pool_fields",
            tars=lambda w: at.tars(w.pool, w.shard),
            fields=lambda w: causes.recipe(w.pool),
        ),
    shell:
        RUN


rule captioned_pool:
    """One shard of a pool of the user's images and a JSON of captions, joined by class and name."""
    input:
        lambda w: ancient(at.inventory(w.pool)),
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        counts="results/pools/{pool}/{shard}.json",
        fields="results/captions/pools/{pool}/{shard}.parquet",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.captioned_pattern(),
    resources:
        **needs(4000),
    params:
        **call(
            "datasets.captions.join.shard",
            captions=lambda w: cfg.pools[w.pool].captions,
            images=lambda w: cfg.pools[w.pool].folder,
            classes=lambda w: cfg.pools[w.pool].classes,
            shards=lambda w: cfg.pools[w.pool].shards,
        ),
    shell:
        RUN


rule captions_report:
    """What of the captions found an image: counts, by reason and by class."""
    input:
        counts=lambda w: [f"results/pools/{w.pool}/{s}.json" for s in at.shards(w.pool)],
    output:
        "results/captions/{pool}.json",
    log:
        "results/logs/captions/{pool}.report.log",
    wildcard_constraints:
        pool=at.captioned_pattern(),
    resources:
        **needs(1000),
    params:
        **call("datasets.captions.join.report"),
    shell:
        RUN


rule corpus:
    """Caption and labels of the images of a shard, as a corpus asks for them."""
    input:
        table=lambda w: at.table(w.dataset, w.shard),
        fields=lambda w: causes.corpus_fields(w.corpus, w.dataset, w.shard),
        classes=causes.class_files(),
    output:
        "results/corpora/{corpus}/{dataset}/{shard}.parquet",
    log:
        "results/logs/corpora/{corpus}.{dataset}.{shard}.log",
    resources:
        **needs(2000),
    params:
        **call(
            "datasets.captions.corpora.corpus",
            corpus=lambda w: cfg.causes.corpora[w.corpus],
            matcher=lambda w: causes.matcher(w.corpus),
            classes=lambda w: causes.classes(),
        ),
    shell:
        RUN
