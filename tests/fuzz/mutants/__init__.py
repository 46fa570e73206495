"""Kinds of mutants: each changes one file of a valid input; seeded.

A kind is a function of the file's path and a seeded chance, registered for suffixes of files:

    @kind("json-deep", ".json", ".jsonl")
    def deep(path: Path, chance: Random) -> None: ...

It raises `Unsuitable` where the file gives it nothing to change.
"""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from random import Random

Change = Callable[[Path, Random], None]


class Unsuitable(Exception):
    """This file gives the kind nothing to change."""


KINDS: dict[str, tuple[tuple[str, ...], Change]] = {}
# Families that fit every file are drawn as often as all that are of the file's own form.
GENERAL = ("bytes", "node", "folder")


def kind(name: str, *suffixes: str) -> Callable[[Change], Change]:
    """Register a kind, for files with these suffixes (none: for all)."""

    def register(change: Change) -> Change:
        assert name not in KINDS, name
        KINDS[name] = (suffixes, change)
        return change

    return register


def fitting(path: Path) -> dict[str, list[str]]:
    """Kinds for a file by family, in a stable order."""
    found: dict[str, list[str]] = {}
    for name, (suffixes, _) in sorted(KINDS.items()):
        special = path.name == "args.json"  # words of a command: see `args`
        if name.startswith("args-") != special:
            continue
        if not suffixes or path.suffix in suffixes:
            found.setdefault(name.partition("-")[0], []).append(name)
    return found


def mutate(path: Path, chance: Random) -> str:
    """Change a file by a kind drawn at random, half of the time one of its form; its name."""
    families = fitting(path)
    general = {f: kinds for f, kinds in families.items() if f in GENERAL}
    special = {f: kinds for f, kinds in families.items() if f not in GENERAL}
    while True:
        chosen = special if special and (not general or chance.random() < 0.6) else general
        name = chance.choice(chosen[chance.choice(sorted(chosen))])
        try:
            KINDS[name][1](path, chance)
        except Unsuitable:
            continue
        return name


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
