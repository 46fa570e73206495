"""Patterns of Snakemake's wildcards. Imported at parse time."""

from collections.abc import Iterable

# Of any name of the configuration.
NAME = "[a-z0-9][A-Za-z0-9_]*"


def pattern(names: Iterable[str]) -> str:
    """A wildcard pattern of some names; one that no name has where there are none.

    >>> pattern(["b", "a"]), pattern([])
    ('a|b', 'NONE')
    """
    return "|".join(sorted(names)) or "NONE"
