"""Patterns of Snakemake's wildcards. Imported at parse time."""

from collections.abc import Iterable


def pattern(names: Iterable[str]) -> str:
    """A wildcard pattern of some names; one that no name has where there are none.

    >>> pattern(["b", "a"]), pattern([])
    ('a|b', 'NONE')
    """
    return "|".join(sorted(names)) or "NONE"
