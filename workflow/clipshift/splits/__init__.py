"""Splits: which samples of a pool are kept for training, and why the others are not.

in    sample tables, margins, duplicates, classifier decisions
out   one table a split with a row a sample, and its counts
"""
