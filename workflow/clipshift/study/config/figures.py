"""Configuration of the figures and tables: `figures: {KIND: {NAME: block}}`.

A block of the kind KIND and the name NAME is drawn as `results/figures/KIND_NAME.svg` (and `.pdf`),
with its numbers in `results/tables/KIND_NAME.csv`. The kinds are the modules of `figures.kinds`.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import Name, TestSetName, TrainedSplit
from clipshift.study.layout.figures import FigureBlock
from clipshift.study.registry import Registry

KINDS: Registry[type[FigureBlock]] = import_module("clipshift.figures.kind").KINDS


class AnyFigures(Block):
    """What `Figures` is beside its kinds."""

    if TYPE_CHECKING:
        contrasts: list[tuple[TrainedSplit, TrainedSplit, TestSetName]] = []

    @model_validator(mode="after")
    def _names_are_free(self) -> "AnyFigures":
        for kind, block in KINDS.blocks.items():
            if taken := getattr(self, kind).keys() & set(block.reserved):
                raise ValueError(f"{kind}: {sorted(taken)} name tables of published models")
        return self

    def blocks(self) -> Iterator[tuple[str, str, FigureBlock]]:
        """Every figure and table: its kind, name and block, in the order of a report."""
        for kind in KINDS:
            yield from ((kind, name, block) for name, block in getattr(self, kind).items())


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for kind, block in KINDS.blocks.items():
        made = f"Name -> `{[*block.image('{name}'), *block.tables('{name}')][0]}`."
        fields[kind] = (dict[Name, block], Field(default={}, description=made))  # type: ignore[valid-type]
    pairs: Any = Field(
        default=[], description="[split, other split, test set]: differences with intervals."
    )
    return fields | {"contrasts": (list[tuple[TrainedSplit, TrainedSplit, TestSetName]], pairs)}


if TYPE_CHECKING:
    Figures = AnyFigures
else:
    Figures = create_model(
        "Figures",
        __base__=AnyFigures,
        __doc__="Figures and tables of the study; each is a file target.",
        **_fields(),
    )
