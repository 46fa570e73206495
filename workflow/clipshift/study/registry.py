"""Blocks of the configuration that live beside their code: one file holds one thing.

A module of `splits.recipes`, `similarity.encoders` or `figures` defines a block, the code that it
configures, and what else belongs to it. A registry imports the modules of its package and gives the
configuration their blocks: adding a kind is adding a file. The study's room imports no room above
it; the modules are found by the name of their package.

Modules are imported when Snakemake reads the workflow: they import torch, matplotlib, scipy,
sklearn and duckdb where they use them, not at their head.
"""

import pkgutil
from collections.abc import Callable, Iterator
from functools import cached_property, reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

B = TypeVar("B", bound=type)


class Registry(Generic[B]):
    """The blocks of a package, by name, in the order of `order` and then of the names.

    Args:
        package: dotted name of the package whose modules register.
        order: names in the order in which people read them.
    """

    def __init__(self, package: str, order: tuple[str, ...] = ()) -> None:
        self.package, self.order = package, order
        self._registered: dict[str, B] = {}

    def __call__(self, name: str) -> Callable[[B], B]:
        """A decorator that registers a block under its name.

        Raises:
            ValueError: the name is taken.
        """

        def register(block: B) -> B:
            if name in self._registered:
                raise ValueError(f"{self.package}: {name!r} is registered twice")
            self._registered[name] = block
            return block

        return register

    @cached_property
    def blocks(self) -> dict[str, B]:
        """All blocks, by name; imports the package's modules."""
        # Blocks register when their module is imported.
        package = import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, f"{self.package}."):
            import_module(module.name)
        first = [name for name in self.order if name in self._registered]
        rest = sorted(self._registered.keys() - set(first))
        return {name: self._registered[name] for name in [*first, *rest]}

    def union(self, discriminator: str) -> Any:
        """The type of all blocks; a key of theirs says which of them a value is."""
        return Annotated[reduce(or_, self.blocks.values()), Field(discriminator=discriminator)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.blocks)
