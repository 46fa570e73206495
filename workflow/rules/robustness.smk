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
        account="results/tables/effective_robustness_testbed.json",
    log:
        "results/logs/tables/effective_robustness_testbed.log",
    resources:
        **needs(1000, 10),
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
        **needs(1000, 10),
    params:
        **call("figures.testbed.figure", block=cfg.robustness),
    shell:
        RUN
