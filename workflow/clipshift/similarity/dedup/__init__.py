"""De-duplication of a pool in the embedding space: clusters -> scores -> rule -> record.

Scores (which point is similar to an earlier one, how much) are stored; the rule and its threshold
apply in a later, cheap step. "Earlier" is always the order of keys, never the order of files.
"""
