"""Study B: which pictures are natural, which are renditions, and what each teaches a model.

labels -> classifiers -> scores -> operating points -> verdicts -> composition, clean sets, splits.
"""
