"""Training objectives, one a module: a block of the configuration, and what it adds to a trainer.

What an objective answers is in `clipshift.study.config.objective_base`; docs/extending.md adds one.
"""

SELECTS = "Selects this objective."
