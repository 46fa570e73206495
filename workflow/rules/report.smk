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
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        contents=lambda w: as_json(
            report_contents(at, [Path(f).name for f in workflow.configfiles])
        ),
        version=version_of("report"),
    shell:
        "python -m clipshift.figures.report --contents {params.contents:q} --results results"
        " --out {output} > {log} 2>&1"
