"""The kinds of figures and tables: one module a kind, named after it.

in    files that the workflow made, by role (`files` of the kind's block)
out   the numbers (csv) and, unless the kind is a table, the image (svg, pdf)

A module defines the block of the configuration, `figures.KIND.NAME`, says what it reads, and has
the step `figure`, or `table` where nothing is drawn. To add a kind is to add a module here, and a
test of its rows. Snakemake imports them when it reads the workflow: numpy and whatever is heavier
are imported where they are used.
"""
