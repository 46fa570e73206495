"""Figures, tables and the report: one module a kind.

in    files that the workflow made, never numbers from elsewhere (published ones are marked)
out   SVG, PNG, csv, and the report as one page
"""
