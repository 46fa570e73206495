"""What a study costs before it runs: work, time and memory of each job, and the whole preview.

In: a configuration, and Snakemake's dry run of it. Out: what jobs ask a cluster for (`limits`), and
the text of `clipshift plan` (`preview`, `compare`). Nothing is measured but what has run.
"""
