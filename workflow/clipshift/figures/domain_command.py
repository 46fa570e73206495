"""What the figures that compare splits on clean sets share: their command line and its arms."""

import argparse
from typing import TypeVar

from clipshift.evaluation.by_domain import Arm, read_arms
from clipshift.figures.command import arguments
from clipshift.study.config.domain_figures import OfClean

B = TypeVar("B", bound=OfClean)


def compared(model: type[B], doc: str | None) -> tuple[B, dict[str, Arm], argparse.Namespace]:
    """The block, the arms by split on its clean sets, and the rest: `study`, `csv` and `out`."""
    block, files, args = arguments(model, doc)
    arms = read_arms(files["predictions"], files["clean"], block.variant)
    return block, arms, args
