# Verdicts -> composition and clean test sets.
#   in   results/domains/{name}/verdicts/, labelled sets
#   out  results/domains/{name}/composition.json
#        clean/{clean}.parquet, .json         which images are kept, and why others are not


rule domain_composition:
    """What pools and sets are made of, corrected for the detectors' errors."""
    input:
        dom.composition_inputs(),
    output:
        f"{HOME}/composition.json",
    log:
        "results/logs/domains/composition.log",
    resources:
        **needs(64000, 1440),
    params:
        **call(
            "classifiers.composition.write_composition",
            datasets=lambda w: {d: compact(dom.verdicts(d)) for d in dom.datasets},
            learned=lambda w: {d: dom.labels(d) for d in dom.labelled},
            measured=lambda w: {d: dom.labels(d) for d in dom.measured},
            parts=lambda w: [dom.parts(c) for c in dom.used],
            draws=lambda w: cfg.domains.draws,
            seed=lambda w: cfg.domains.seed,
        ),
    shell:
        RUN


rule clean_set:
    """The images of a test set that are of its domain."""
    input:
        verdicts=lambda w: dom.verdicts(cfg.domains.clean[w.clean].set)[0],
        samples=lambda w: at.table(cfg.domains.clean[w.clean].set),
        classnames=lambda w: f"results/sets/{cfg.domains.clean[w.clean].set}/classnames.txt",
    output:
        table=f"{HOME}/clean/{{clean}}.parquet",
        account=f"{HOME}/clean/{{clean}}.json",
    log:
        "results/logs/domains/clean.{clean}.log",
    resources:
        **needs(1000, 10),
    params:
        **call(
            "classifiers.clean_set.write_clean",
            spec=lambda w: cfg.domains.clean[w.clean],
        ),
    shell:
        RUN
