"""The study: its typed configuration, where each of its files lies, what it costs.

in    the YAML files of a study
out   `config`: the typed configuration; `layout`: paths that the rules share;
      `planning`: what jobs cost and ask for, and the cost preview; `cluster`: how they ask Slurm;
      the modules of the root: one run, from its start to the record of what it made
Imported each time Snakemake reads the workflow, so nothing here imports numpy, torch or pyarrow.
"""
