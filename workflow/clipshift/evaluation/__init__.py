"""Evaluation: logits of a run on a test set, and queries over them."""
