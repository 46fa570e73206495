# Data that the user already has: folders outside -> their tables, as if they had been built here.
#   in   the folders of `pools.*.folder` and `sets.*.folder`, below the key `data`
#   out  results/external.json: what is there; the one check, with one message for all that is not
#        results/external_domains.json: the same for the folders of study B alone
#        results/pools/{pool}/{shard}.parquet and .json (the tars stay where they are)
#        results/sets/{testset}/samples.parquet, classnames.txt, dataset_type.txt, manifest.json
#        pools.*.storage: objects, which Snakemake fetches for the jobs that read them
# No folder is an input of any rule: a file in it that is newer computes nothing again. Objects are
# inputs, for Snakemake must know what to fetch, but never newer than anything.


localrules:
    external_data,
    external_domains,


rule external_data:
    """Whether every folder is there and whole; says all that is missing at once."""
    output:
        INVENTORY,
    log:
        "results/logs/external.log",
    retries: 0  # one message, not three
    params:
        data=cfg.data,
        folders=lambda w: as_json(
            {
                n: b.model_dump(mode="json")
                for n, b in cfg.folders.items()
                if n not in cfg.domain_folders
            }
        ),
    shell:
        "python -m clipshift.inventory --data {params.data:q} --folders {params.folders:q}"
        " --out {output} > {log} 2>&1"


use rule external_data as external_domains with:
    output:
        DOMAIN_INVENTORY,
    log:
        "results/logs/external_domains.log",
    params:
        data=cfg.data,
        folders=lambda w: as_json(
            {n: b.model_dump(mode="json") for n, b in cfg.domain_folders.items()}
        ),


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
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        tars=lambda w: at.tars(w.pool, w.shard),
        version=version_of("folder_pool"),
    shell:
        "python -m clipshift.folder_pool --name {wildcards.pool} --tars {params.tars:q}"
        " --out {output.table} > {log} 2>&1"


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
        mem_mb=grows(4000),
        runtime=grows(240),
    params:
        testset=lambda w: at.folder_set(w.testset),
        version=version_of("folder_set"),
    shell:
        "python -m clipshift.folder_set --name {wildcards.testset} --set {params.testset:q}"
        " --out results/sets/{wildcards.testset} > {log} 2>&1"
