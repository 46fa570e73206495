"""clipshift: which training data makes CLIP robust to distribution shift?

The library behind the Snakemake workflow. Each step is one module with a pure function and a
`python -m clipshift.STEP` entry point; nothing here imports Snakemake.
"""

__version__ = "0.1.0"
