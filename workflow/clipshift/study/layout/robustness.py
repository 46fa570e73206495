"""Where the tables and figures of published models lie. Pure string work, as in `layout`."""

from typing import get_args

from clipshift.study.config.robustness import RESERVED, ShiftName

# A test compares them with `robustness.claims`, which is too heavy for parse time.
CLAIMS = ("clip", "subsampling", "self_supervised", "data_source", "fine_tuned")
PUBLISHED_FIGURES = (*get_args(ShiftName), *CLAIMS)
PUBLISHED_ROBUSTNESS = [
    *(f"results/tables/effective_robustness_{name}.csv" for name in RESERVED),
    *(f"results/figures/testbed_{what}.svg" for what in PUBLISHED_FIGURES),
]
