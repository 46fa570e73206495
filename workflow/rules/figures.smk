# Figures and tables: evaluations and scores -> what people look at.
#   in   results/logits/, results/eval/{split}.json, neighbours, margins, sample tables and tars
#   out  results/figures/{kind}_{name}.svg and .pdf, its numbers results/tables/{kind}_{name}.csv;
#        results/tables/{accuracy,contrasts}.csv, results/figures/samples/*.jpg


rule figure:
    """One figure of the configuration, `figures.KIND.NAME`, with its numbers."""
    input:
        lambda w: there(figure_inputs(at, w.kind, w.figure)),
    output:
        svg=report(
            "results/figures/{kind}_{figure}.svg",
            caption="../report/figure.rst",
            category="{kind}",
            labels={"figure": "{figure}"},
        ),
        pdf="results/figures/{kind}_{figure}.pdf",
        table="results/tables/{kind}_{figure}.csv",
    log:
        "results/logs/figures/{kind}_{figure}.log",
    wildcard_constraints:
        kind="|".join(FIGURE_KINDS),
    resources:
        mem_mb=grows(2000),
        runtime=grows(30),
    params:
        block=lambda w: as_json(getattr(cfg.figures, w.kind)[w.figure]),
        study=lambda w: as_json(figure_study(at, w.kind, w.figure)),
        files=lambda w: as_json(figure_files(at, w.kind, w.figure)),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.{wildcards.kind} --block {params.block:q}"
        " --study {params.study:q} --files {params.files:q}"
        " --csv {output.table}"
        " --out {output.svg} {output.pdf} > {log} 2>&1"


use rule figure as accuracy_vs_similarity with:
    output:
        svg=report(
            "results/figures/{kind}_{figure}.svg",
            caption="../report/figure.rst",
            category="{kind}",
            labels={"figure": "{figure}"},
        ),
        pdf="results/figures/{kind}_{figure}.pdf",
        table="results/tables/{kind}_{figure}.csv",
        rho="results/tables/{kind}_{figure}.rho.csv",
    wildcard_constraints:
        kind="accuracy_vs_similarity",


rule pruned_table:
    """Splits: points removed, accuracy per test set, published numbers beside."""
    input:
        lambda w: figure_inputs(at, "pruned", w.figure),
    output:
        report("results/tables/pruned_{figure}.csv", category="Accuracy"),
    log:
        "results/logs/tables/pruned_{figure}.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        block=lambda w: as_json(cfg.figures.pruned[w.figure]),
        study=lambda w: as_json(figure_study(at, "pruned", w.figure)),
        files=lambda w: as_json(figure_files(at, "pruned", w.figure)),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.pruned_table --block {params.block:q} --study {params.study:q}"
        " --files {params.files:q} --csv {output} > {log} 2>&1"


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
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.samples --tar {input.tar} --table {input.table} --rows 2"
        " --out {output} > {log} 2>&1"


rule split_samples:
    """A grid of what a split keeps and what it removes."""
    input:
        tars=lambda w: there(at.split_tars(w.split)),
        split="results/splits/{split}.parquet",
    output:
        "results/figures/samples/split_{split}.jpg",
    log:
        "results/logs/figures/split_{split}.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        tars=lambda w: tar_arguments(at.split_tars(w.split)),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.samples {params.tars}"
        " --split {input.split} --out {output} > {log} 2>&1"


rule accuracy_table:
    """Split x test set, with n and intervals."""
    input:
        at.evaluations(cfg.trained),
    output:
        report("results/tables/accuracy.csv", category="Accuracy"),
    log:
        "results/logs/tables/accuracy.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        evaluations=at.evaluations(cfg.trained),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.tables accuracy --out {output} {params.evaluations} > {log} 2>&1"


rule contrasts_table:
    """Differences of accuracy between splits, on the same images."""
    input:
        table_inputs(contrast_files(at)),
    output:
        report("results/tables/contrasts.csv", category="Accuracy"),
    log:
        "results/logs/tables/contrasts.log",
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        contrasts=lambda w: as_json(cfg.figures.contrasts),
        files=lambda w: as_json(contrast_files(at)),
        version=version_of("figures"),
    shell:
        "python -m clipshift.figures.tables contrasts --contrasts {params.contrasts:q}"
        " --files {params.files:q} --out {output} > {log} 2>&1"
