"""`clipshift cluster-check`: two jobs through the slurm profile, and what came of them.

options -> run (submits by Snakemake, waits, cancels) -> jobs (what a node has) -> report
"""
