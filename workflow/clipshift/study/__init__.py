"""The study: its typed configuration, where each of its files lies, what it costs.

in    the YAML files of a study
out   `config`: the typed configuration; `layout`: paths that the rules share;
      `plan`: the cost preview; `cluster`: what jobs ask of Slurm
Imported each time Snakemake reads the workflow, so nothing here imports numpy, torch or pyarrow.
"""
