# Figures and tables: evaluations and scores -> what people look at.
#   in   results/logits/, results/eval/{split}.json, neighbours, margins, sample tables and tars
#   out  results/figures/{kind}_{name}.svg and .pdf, its numbers results/tables/{kind}_{name}.csv;
#        results/tables/{accuracy,contrasts}.csv, results/figures/samples/*.jpg


rule figure:
    """One figure of the configuration, `figures.KIND.NAME`, with its numbers."""
    input:
        lambda w: there(figure_inputs(at, w.kind, w.figure)),
    output:
        report(
            "results/figures/{kind}_{figure}.svg",
            caption="../report/figure.rst",
            category="{kind}",
            labels={"figure": "{figure}"},
        ),
        "results/figures/{kind}_{figure}.pdf",
        table="results/tables/{kind}_{figure}.csv",
    log:
        "results/logs/figures/{kind}_{figure}.log",
    wildcard_constraints:
        kind=pattern(k for k, b in KINDS.blocks.items() if b.drawn and not b.more),
    resources:
        **needs(2000, 30),
    params:
        **call(
            lambda w: f"figures.kinds.{w.kind}.{'figure' if KINDS.blocks[w.kind].drawn else 'table'}",
            block=lambda w: figure_block(at, w.kind, w.figure),
            study=lambda w: figure_study(at, w.kind, w.figure),
            files=lambda w: figure_files(at, w.kind, w.figure),
        ),
    shell:
        RUN


use rule figure as accuracy_vs_similarity with:
    output:
        report(
            "results/figures/{kind}_{figure}.svg",
            caption="../report/figure.rst",
            category="{kind}",
            labels={"figure": "{figure}"},
        ),
        "results/figures/{kind}_{figure}.pdf",
        table="results/tables/{kind}_{figure}.csv",
        rho="results/tables/{kind}_{figure}.rho.csv",
    wildcard_constraints:
        kind="accuracy_vs_similarity",


use rule figure as table with:
    """One table of the configuration that has no figure: splits, or detectors and clean sets."""
    output:
        report(
            "results/tables/{kind}_{figure}.csv",
            category=lambda w: KINDS.blocks[w.kind].section.capitalize(),
        ),
    log:
        "results/logs/tables/{kind}_{figure}.log",
    wildcard_constraints:
        kind=pattern(k for k, b in KINDS.blocks.items() if not b.drawn),
    resources:
        **needs(1000, 10),


rule source_samples:
    """A grid of a source's images."""
    input:
        tar="results/sources/{source}/samples.tar",
        table="results/sources/{source}/samples.parquet",
    output:
        "results/figures/samples/source_{source}.jpg",
    log:
        "results/logs/figures/source_{source}.log",
    resources:
        **needs(1000, 10),
    params:
        **call("figures.samples.source"),
    shell:
        RUN


rule split_samples:
    """A grid of what a split keeps and what it removes."""
    input:
        lambda w: there(at.split_tars(w.split)),
        split="results/splits/{split}.parquet",
    output:
        "results/figures/samples/split_{split}.jpg",
    log:
        "results/logs/figures/split_{split}.log",
    resources:
        **needs(1000, 10),
    params:
        **call("figures.samples.split", tars=lambda w: at.split_tars(w.split)),
    shell:
        RUN


rule accuracy_table:
    """Split x test set, with n and intervals."""
    input:
        at.evaluations(cfg.trained),
    output:
        report("results/tables/accuracy.csv", category="Accuracy"),
    log:
        "results/logs/tables/accuracy.log",
    resources:
        **needs(1000, 10),
    params:
        **call("figures.tables.accuracy", evaluations=at.evaluations(cfg.trained)),
    shell:
        RUN


rule contrasts_table:
    """Differences of accuracy between splits, on the same images."""
    input:
        table_inputs(Evaluations(at).contrasts()),
    output:
        report("results/tables/contrasts.csv", category="Accuracy"),
    log:
        "results/logs/tables/contrasts.log",
    resources:
        **needs(1000, 10),
    params:
        **call(
            "figures.tables.contrasts",
            contrasts=cfg.figures.contrasts,
            files=lambda w: Evaluations(at).contrasts(),
        ),
    shell:
        RUN
