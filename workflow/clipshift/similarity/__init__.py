"""Similarity: embeddings, exact similarities of all pairs, margins, neighbours, de-duplication.

in    shards of images, or embeddings that the user has
out   embedding shards; per sample its largest similarity to a test set and its margin; duplicates
Scores are stored; thresholds apply later, in `splits`.
"""
