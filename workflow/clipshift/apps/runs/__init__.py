"""`clipshift run`, `resume`, `status`, `unlock`: Snakemake with the options of this checkout."""
