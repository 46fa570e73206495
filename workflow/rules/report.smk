# The report: everything above -> one self-contained page.
#   in   accounts of every step, figures, tables, sample grids
#   out  results/report.html


def report_contents():
    """What the report shows, by name; the step knows where each thing lies."""
    return {
        "study": cfg.study,
        "configuration": [str(f) for f in workflow.configfiles],
        "sources": list(cfg.sources),
        "datasets": {name: sources_of(name) for name in [*cfg.pools, *cfg.sets]},
        "pools": {name: shards_of(name) for name in cfg.pools},
        "sets": list(cfg.sets),
        "pool": cfg.pool,
        "reference": cfg.reference,
        "encoder": cfg.encoder,
        "splits": {name: split.reference for name, split in cfg.splits.items()},
        "runs": [run for split in cfg.splits for run in runs_of(split)],
        "curves": list(cfg.figures.accuracy_vs_pruned),
        "contrasts": bool(cfg.figures.contrasts),
    }


def report_inputs():
    tables = ["accuracy", "similarity_gap"] + ["contrasts"] * bool(
        cfg.figures.contrasts
    )
    used = {cfg.pool, cfg.reference, *cfg.test_sets}
    return [
        *(f"results/sources/{s}/manifest.json" for s in cfg.sources),
        *(f"results/pools/{p}/manifest.json" for p in cfg.pools),
        *(f"results/sets/{s}/manifest.json" for s in cfg.sets),
        *(
            f"results/embeddings/{cfg.encoder}/{d}/account/account_{s}.json"
            for d in sorted(used)
            for s in shards_of(d)
        ),
        *(f"results/splits/{s}.json" for s in cfg.splits),
        *(
            f"results/models/{run}/record.json"
            for s in cfg.splits
            for run in runs_of(s)
        ),
        *(f"results/tables/{t}.csv" for t in tables),
        "results/figures/similarity_gap.svg",
        *(
            f"results/figures/accuracy_vs_pruned_{c}.svg"
            for c in cfg.figures.accuracy_vs_pruned
        ),
        *(f"results/figures/samples/source_{s}.jpg" for s in cfg.sources),
        *(f"results/figures/samples/split_{s}.jpg" for s in cfg.splits),
    ]


rule report_page:
    """Write the page; refuses when the accounts from source to split do not add up."""
    input:
        report_inputs(),
    output:
        "results/report.html",
    log:
        "results/logs/report.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        contents=lambda w: as_json(report_contents()),
        version=version_of("report"),
    shell:
        "python -m clipshift.report --contents {params.contents:q} --results results"
        " --out {output} > {log} 2>&1"
