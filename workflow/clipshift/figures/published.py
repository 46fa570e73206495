"""Published numbers, to stand beside ours and always marked as published.

`data/published_*.json` hold what was read in the papers' figures, data and code (`read`) or is
known at second hand (`second-hand`); nothing of it enters a computation of ours.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

MARK = "published (arXiv:2310.09562)"
MARK_DOMAINS = "published (arXiv:2410.08258)"


@cache
def published() -> dict[str, Any]:
    """The whole file of study A's paper."""
    return _read("similarity_pruning")


@cache
def published_domains() -> dict[str, Any]:
    """The whole file of study B's paper."""
    return _read("domains")


def _read(name: str) -> dict[str, Any]:
    text = files("clipshift").joinpath(f"data/published_{name}.json").read_text()
    return dict(json.loads(text))
