"""What every figure and table is to the workflow: what it reads, and where it lies.

Pure string work, as in `layout`. The files of a pool's shards stand as a pattern with their number,
which keeps the plan of a large pool small. The kinds are in `figures.kinds`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from clipshift.core.brace_ranges import sharded
from clipshift.study.config.causes import Subset
from clipshift.study.config.data import Block
from clipshift.study.config.robustness import Robustness

if TYPE_CHECKING:
    from clipshift.study.layout.study import Layout

Files = dict[str, Any]
# A table of predictions; the logits and their record lie beside it.
LOGITS = "results/logits/"


class Study(Block):
    """What a figure has to know of the study beyond its own block; empty where it need not."""

    later = frozenset({"robustness"})

    reference: str = Field(description="The reference set.")
    subsets: dict[str, Subset] = Field(default={}, description="Test sets of fewer classes.")
    recipes: dict[str, dict[str, Any]] = Field(default={}, description="Recipes of pruned splits.")
    mixes: dict[str, list[int]] = Field(
        default={}, description="Of splits by domain: natural, rendition and random points."
    )
    classifiers: dict[str, dict[str, str]] = Field(
        default={}, description="Kind, form and encoder of domain classifiers."
    )
    robustness: Robustness | None = Field(
        default=None, description="How lines of published models are fitted."
    )


class FigureBlock(Block):
    """A figure or a table, `figures.KIND.NAME`; `figures.kind.kind` registers its kind.

    Attributes:
        kind: its key in the configuration, and the name of its module.
        section, caption: of the report.
        drawn: False where it is a table only.
        more: further tables, by the ends of their names.
        reserved: names that its tables cannot have.
    """

    kind: ClassVar[str]
    section: ClassVar[str]
    caption: ClassVar[str]
    drawn: ClassVar[bool]
    more: ClassVar[tuple[str, ...]]
    reserved: ClassVar[tuple[str, ...]]

    def files(self, at: "Layout") -> Files:
        """The files that it reads, by role."""
        raise NotImplementedError

    def study(self, at: "Layout") -> dict[str, Any]:
        """What it has to know of the study, of the fields of `Study`."""
        return {}

    def margins(self, at: "Layout") -> list[tuple[str, list[str]]]:
        """Whose margins it reads, those of the pool: encoders, each with its test sets."""
        return []

    def on_clean(self) -> dict[str, list[str]]:
        """Split -> clean sets that it shows the split on."""
        return {}

    @classmethod
    def image(cls, name: str) -> list[str]:
        """Where it is drawn; empty for a table."""
        return [f"results/figures/{cls.kind}_{name}.svg"] * cls.drawn

    @classmethod
    def tables(cls, name: str) -> list[str]:
        ends = ("", *(f".{end}" for end in cls.more))
        return [f"results/tables/{cls.kind}_{name}{end}.csv" for end in ends]


def figure_block(at: "Layout", kind: str, name: str) -> FigureBlock:
    block: FigureBlock = getattr(at.cfg.figures, kind)[name]
    return block


def figure_files(at: "Layout", kind: str, name: str) -> Files:
    """The files that a figure reads, by role."""
    return figure_block(at, kind, name).files(at)


def figure_inputs(at: "Layout", kind: str, name: str) -> list[str]:
    """The same, as a flat list without repetition."""
    return table_inputs(figure_files(at, kind, name))


def figure_study(at: "Layout", kind: str, name: str) -> Study:
    return Study(reference=at.reference, **figure_block(at, kind, name).study(at))


def table_inputs(files: Any) -> list[str]:
    """The files of a table, as a flat list without repetition."""
    return list(dict.fromkeys(leaves(files)))


def leaves(value: Any) -> Iterator[str]:
    """Every path in the files of a figure, those of patterns spelled out."""
    if isinstance(value, str):
        yield value
        if value.startswith(LOGITS):  # and what lies beside it
            yield from (str(Path(value).with_suffix(suffix)) for suffix in (".json", ".npy"))
    elif isinstance(value, dict) and "pattern" in value:
        yield from sharded(value)
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
