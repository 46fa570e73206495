"""Readers by name; a new one is a class in a module of this folder."""

import importlib
import pkgutil

from tests.fuzz.reader import Reader

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def _below(base: type[Reader]) -> list[type[Reader]]:
    return [kind for sub in base.__subclasses__() for kind in (sub, *_below(sub))]


READERS: dict[str, Reader] = {
    kind.name: kind()
    for kind in sorted(_below(Reader), key=lambda kind: kind.name)
    if kind.__module__.startswith(f"{__name__}.")
}
