"""Patterns of Snakemake's wildcards. Imported at parse time."""

import re
from collections.abc import Iterable
from itertools import groupby
from os.path import commonprefix

# Of any name of the configuration.
NAME = "[a-z0-9][A-Za-z0-9_]*"


def pattern(names: Iterable[str]) -> str:
    """A wildcard pattern of some names; one that no name has where there are none.

    >>> pattern(["b", "a"]), pattern([])
    ('a|b', 'NONE')
    """
    return "|".join(sorted(names)) or "NONE"


def compact_pattern(names: Iterable[str]) -> str:
    r"""The same of hundreds of names, common beginnings written once.

    Python compiles a pattern in a time by its length, and each output of a rule holds it.

    >>> compact_pattern(["a-s1", "a-s2", "a-s12", "b"])
    '(?:a\\-s(?:1(?:2)?|2)|b)'
    """
    words = sorted(set(names))
    if not words:
        return "NONE"
    start = commonprefix(words)  # noqa: RUF071, of letters and not of folders
    ends = [word[len(start) :] for word in words]
    branches = [compact_pattern(same) for _, same in groupby(filter(None, ends), lambda e: e[0])]
    if not branches:
        return re.escape(start)
    return f"{re.escape(start)}(?:{'|'.join(branches)}){'?' * ('' in ends)}"
