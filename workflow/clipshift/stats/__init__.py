"""Statistics: intervals of accuracies, rank correlation, corrected prevalence.

in    counts and arrays
out   estimates with their intervals; no file is read or written
"""
