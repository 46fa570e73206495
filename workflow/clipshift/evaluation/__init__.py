"""Evaluation: a model runs once on a test set; all that is reported are queries over its logits.

in    weights, labelled sets, prompts
out   logits (N, C); accuracies with n and 95 % interval; effective robustness
"""
