"""The similarity engine: exact maxima over all pairs, most of them decided by a cheap bound.

Every pool point (a *row*) is compared with every test image (a *column*). A low-precision product
of a leading part of the embeddings bounds each similarity from above; only pairs that may still be
a maximum are computed in float64. See docs/engine.md.
"""
