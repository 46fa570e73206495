# Verdicts -> composition and clean test sets.
#   in   results/domains/{name}/verdicts/, labelled sets
#   out  results/domains/{name}/composition.json
#        clean/{clean}.parquet, .json         who is kept, and why the others are not


rule domain_composition:
    """What pools and sets are made of, corrected for the detectors' errors."""
    input:
        dom.composition_inputs(),
    output:
        f"{HOME}/composition.json",
    log:
        "results/logs/domains/composition.log",
    resources:
        mem_mb=grows(2000),
        runtime=grows(60),
    params:
        words=lambda w: dom.composition_words(),
        draws=cfg.domains.draws if cfg.domains else None,
        seed=cfg.domains.seed if cfg.domains else None,
        version=version_of("domain_composition"),
    shell:
        "python -m clipshift.classifiers.composition {params.words}"
        " --draws {params.draws} --seed {params.seed} --out {output} > {log} 2>&1"


rule clean_set:
    """The pictures of a test set that are of its domain."""
    input:
        verdicts=lambda w: dom.verdicts(cfg.domains.clean[w.clean].set),
        table=lambda w: at.table(cfg.domains.clean[w.clean].set),
        classes=lambda w: f"results/sets/{cfg.domains.clean[w.clean].set}/classnames.txt",
    output:
        table=f"{HOME}/clean/{{clean}}.parquet",
        account=f"{HOME}/clean/{{clean}}.json",
    log:
        "results/logs/domains/clean.{clean}.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        clean=lambda w: as_json(cfg.domains.clean[w.clean]),
        folder=lambda w: f"results/sets/{cfg.domains.clean[w.clean].set}",
        version=version_of("clean_sets"),
    shell:
        "python -m clipshift.classifiers.clean_set --clean {params.clean:q} --set {params.folder}"
        " --verdicts {input.verdicts} --out {output.table} > {log} 2>&1"
