# The report: everything above -> one self-contained page.
#   in   accounts of every step, figures, tables, sample grids
#   out  results/report.html


rule report_page:
    """Write the page; refuses when the accounts from source to split do not add up."""
    input:
        report_inputs(at),
    output:
        "results/report.html",
    log:
        "results/logs/report.log",
    resources:
        **needs(1000, 10),
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
