"""Effective robustness: how far a model lies above the line of models that were not made robust.

rho(f) = acc_shift(f) - beta(acc_id(f)), where the line beta is fitted by least squares to baseline
models, both accuracies transformed (Taori et al. 2020, Miller et al. 2021). In three steps:

    baseline = Points.of([("a", [on_val], on_sketch), ...])   # points: accuracies with their axes
    line = fit(baseline)                                      # lines
    effective_robustness(line, mine)                          # rho: one row a model

`points` knows what was measured on which classes and refuses to mix them, `spaces` holds the
transforms, `shifts` the shifted sets of ImageNet, `sources` published tables.
"""
