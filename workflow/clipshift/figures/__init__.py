"""Figures, tables and the report.

in    files that the workflow made, never numbers from elsewhere (published ones are marked)
out   SVG, PDF, csv, and the report as one page

`kinds` has a module for each kind of the configuration, `kind` what they share.
"""
