"""Figures, tables and the report: one module a kind.

in    files that the workflow made, never numbers from elsewhere (published ones are marked)
out   SVG, PDF, csv, and the report as one page

The module of a kind has a step `figure`, or `table` where there is nothing to draw. All of them
take the block of the configuration, the files it reads by role, and what else of the study it needs
(`study.layout.figures`); they write the numbers (csv) and the figure (svg, pdf).
"""
