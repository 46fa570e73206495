"""Statistics: intervals of accuracies, rank correlation, agreement of labels, corrected prevalence.

in    counts and arrays
out   estimates with their intervals; no file is read or written
"""
