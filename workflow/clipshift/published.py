"""Published numbers, to stand beside ours and always marked as published.

`data/published_similarity_pruning.json` holds what was read in the paper's figures, data and code
(`read`) or is known at second hand (`second-hand`); nothing of it enters a computation of ours.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

MARK = "published (arXiv:2310.09562)"


@cache
def published() -> dict[str, Any]:
    """The whole file."""
    text = files("clipshift").joinpath("data/published_similarity_pruning.json").read_text()
    return dict(json.loads(text))
