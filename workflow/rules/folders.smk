# Data that the user already has: folders outside -> their tables, as if they had been built here.
#   in   the folders of `pools.*.folder` and `sets.*.folder`, below the key `data`
#   out  results/external/{dataset}.json: what is there; one message for all that is not
#        results/pools/{pool}/{shard}.parquet and .json (the tars stay where they are)
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
        account="results/pools/{pool}/{shard}.json",
    log:
        "results/logs/pool/{pool}.{shard}.log",
    benchmark:
        "results/benchmarks/pool/{pool}.{shard}.tsv"
    wildcard_constraints:
        pool=at.img2dataset_pattern(),
    resources:
        **needs(2000, 30),
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
        testset=at.folder_pattern(cfg.sets),
    resources:
        **needs(4000, 240),
    params:
        **call(
            "datasets.external_set.build",
            spec=lambda w: cfg.folders[w.testset].model_dump(exclude={"obtain"}),
            out="results/sets/{testset}",
        ),
    shell:
        RUN
