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
        **needs(2000),
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
        **needs(1000),


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
        **needs(1000),
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
        **needs(1000),
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
        **needs(1000),
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
        **needs(1000),
    params:
        **call(
            "figures.tables.contrasts",
            contrasts=cfg.figures.contrasts,
            files=lambda w: Evaluations(at).contrasts(),
        ),
    shell:
        RUN


# Tables of controlled trainings.
#   out  results/tables/causes_{runs,models,corpora,labels}.csv


rule causes_runs:
    """One row a run and head, and one a split, model and head, with n and intervals."""
    input:
        runs=at.evaluations(ev.controlled()),
        joined=at.evaluations(name for name, _ in asked(cfg.causes)),
        counts=causes.counts(),
    output:
        of_runs=report("results/tables/causes_runs.csv", category="Accuracy"),
        of_models=report("results/tables/causes_models.csv", category="Accuracy"),
        of_corpora=report("results/tables/causes_corpora.csv", category="Accuracy"),
    log:
        "results/logs/tables/causes.log",
    resources:
        **needs(1000),
    params:
        **call(
            "figures.conditions_table.tables",
            # Their order is that of the rows, so they count.
            runs=at.evaluations(ev.controlled()),
            counts=causes.counts(),
            models=cfg.causes.models,
        ),
    shell:
        RUN


rule causes_labels:
    """In which fields of a caption the true class is named."""
    input:
        tables=[at.table(d, s) for d, s in causes.labelled()],
        fields=list(
            dict.fromkeys(f for d, s in causes.labelled() for f in causes.fields(d, s))
        ),
        classes=causes.class_files(),
    output:
        report("results/tables/causes_labels.csv", category="Accuracy"),
    log:
        "results/logs/tables/causes_labels.log",
    resources:
        **needs(2000),
    params:
        **call(
            "datasets.captions.label_statistics.table",
            found=lambda w: cfg.causes.matchers[cfg.causes.found],
            tables=lambda w, input: compact(list(input.tables)),
            fields=lambda w, input: compact(list(input.fields)),
            classes=lambda w: causes.classes(),
        ),
    shell:
        RUN


# Effective robustness of published models: tables of the package -> lines, rho, figures.
#   in   nothing but the block `robustness`: the tables of real models are part of the package
#   out  results/tables/effective_robustness_{testbed,fits}.csv; per shift and per claim
#        results/figures/testbed_{what}.svg and .pdf, its numbers results/tables/testbed_{what}.csv
#        and the sentence that they support, results/tables/testbed_{what}.txt


rule effective_robustness:
    """All of them: `snakemake effective_robustness`."""
    input:
        PUBLISHED_ROBUSTNESS,


rule testbed_table:
    """Every model of the testbed against the line of each shift, and every fit."""
    output:
        models=report(
            "results/tables/effective_robustness_testbed.csv",
            category="Effective robustness",
        ),
        fits=report(
            "results/tables/effective_robustness_fits.csv",
            category="Effective robustness",
        ),
        counts="results/tables/effective_robustness_testbed.json",
    log:
        "results/logs/tables/effective_robustness_testbed.log",
    resources:
        **needs(1000),
    params:
        **call("evaluation.robustness.testbed.tables", block=cfg.robustness),
    shell:
        RUN


rule testbed_figure:
    """Published models against the line, on one shift or of one claim."""
    output:
        report(
            "results/figures/testbed_{what}.svg",
            caption="../report/figure.rst",
            category="Effective robustness",
            labels={"figure": "{what}"},
        ),
        "results/figures/testbed_{what}.pdf",
        table="results/tables/testbed_{what}.csv",
        sentence="results/tables/testbed_{what}.txt",
    log:
        "results/logs/figures/testbed_{what}.log",
    wildcard_constraints:
        what="|".join(PUBLISHED_FIGURES),
    resources:
        **needs(1000),
    params:
        **call("figures.testbed.figure", block=cfg.robustness),
    shell:
        RUN


# The report: everything above -> one self-contained page.
#   in   counts of every step, figures, tables, sample grids
#   out  results/report.html


rule report_page:
    """Write the page; refuses when the counts from source to split do not add up."""
    input:
        report_inputs(at),
    output:
        "results/report.html",
    log:
        "results/logs/report.log",
    resources:
        **needs(1000),
    params:
        **call(
            "figures.report.report",
            contents=lambda w: report_contents(
                at, [Path(f).name for f in workflow.configfiles]
            ),
            results="results",
        ),
    shell:
        RUN
