# Figures and tables: evaluations and scores -> what people look at.
#   in   results/eval/{split}.json, thresholds, nearest points, sample tables
#   out  results/figures/{name}.svg, results/figures/samples/*.jpg, results/tables/{name}.csv


rule similarity_gap:
    """How close the test images are to the pool, and to the reference set."""
    input:
        reference=[at.thresholds(name) for name in cfg.test_sets],
        nearest=[at.neighbours(cfg.pool, name) for name in cfg.test_sets],
    output:
        figure=report(
            "results/figures/similarity_gap.svg",
            caption="../report/similarity_gap.rst",
            category="Similarity",
        ),
        table="results/tables/similarity_gap.csv",
    log:
        "results/logs/figures/similarity_gap.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        files=at.gap_arguments(),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.similarity_gap {params.files}"
        " --csv {output.table} --out {output.figure} > {log} 2>&1"


rule accuracy_vs_pruned:
    """Accuracy against points pruned, one line per way of pruning."""
    input:
        lambda w: at.evaluations(at.curve_splits(w.figure)),
    output:
        report(
            "results/figures/accuracy_vs_pruned_{figure}.svg",
            caption="../report/accuracy_vs_pruned.rst",
            category="Accuracy",
            labels={"driving set": "{figure}"},
        ),
    log:
        "results/logs/figures/accuracy_vs_pruned_{figure}.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        curve=lambda w: as_json(cfg.figures.accuracy_vs_pruned[w.figure]),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.accuracy_vs_pruned --curve {params.curve:q}"
        " --eval results/eval --out {output} > {log} 2>&1"


rule source_samples:
    """A grid of a source's pictures."""
    input:
        tar="results/sources/{source}/samples.tar",
        table="results/sources/{source}/samples.parquet",
    output:
        "results/figures/samples/source_{source}.jpg",
    log:
        "results/logs/figures/source_{source}.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.samples --tar {input.tar} --table {input.table} --rows 2"
        " --out {output} > {log} 2>&1"


rule split_samples:
    """A grid of what a split keeps and what it removes."""
    input:
        tars=lambda w: at.split_tars(w.split),
        split="results/splits/{split}.parquet",
    output:
        "results/figures/samples/split_{split}.jpg",
    log:
        "results/logs/figures/split_{split}.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        tars=lambda w, input: " ".join(f"--tar {t}" for t in input.tars),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.samples {params.tars} --split {input.split} --out {output}"
        " > {log} 2>&1"


rule accuracy_table:
    """Split x test set, with n and intervals."""
    input:
        at.evaluations(cfg.trained),
    output:
        report("results/tables/accuracy.csv", category="Accuracy"),
    log:
        "results/logs/tables/accuracy.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        version=version_of("figures"),
    shell:
        "python -m clipshift.tables accuracy --out {output} {input} > {log} 2>&1"


rule contrasts_table:
    """Differences of accuracy between splits, on the same images."""
    input:
        at.evaluations(at.contrast_splits()),
    output:
        report("results/tables/contrasts.csv", category="Accuracy"),
    log:
        "results/logs/tables/contrasts.log",
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        contrasts=lambda w: as_json(cfg.figures.contrasts),
        version=version_of("figures"),
    shell:
        "python -m clipshift.tables contrasts --contrasts {params.contrasts:q}"
        " --eval results/eval --out {output} > {log} 2>&1"
