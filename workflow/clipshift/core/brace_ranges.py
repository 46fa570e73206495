"""Numbered files as one path pattern, `FOLDER/{00000..00447}.parquet`, and back.

It keeps the parameters of a job small where a large pool has many shards. Imported at parse time.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Only in the name of a file: folders are the user's.
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}(?=[^/]*$)")
# The five-digit number that ends the name of a shard, a group or a tar.
_NUMBER = re.compile(r"(.*?)(\d{5})([^/\d]*)")


def spread(word: str) -> list[Path]:
    """The paths of a numbered range, or of a plain path; see `compact`.

    >>> [str(path) for path in spread("a{1..2}/{08..10}.npy")]
    ['a{1..2}/08.npy', 'a{1..2}/09.npy', 'a{1..2}/10.npy']
    """
    match = RANGE.search(word)
    if not match:
        return [Path(word)]
    first, last = match.groups()
    before, after = word[: match.start()], word[match.end() :]
    numbers = range(int(first), int(last) + 1)
    return [Path(f"{before}{i:0{len(first)}d}{after}") for i in numbers]


def spread_all(words: Sequence[str]) -> list[Path]:
    """The paths of several ranges."""
    return [path for word in words for path in spread(str(word))]


def compact(paths: Sequence[str]) -> list[str]:
    """Paths as path patterns: a row of consecutive numbers becomes one range.

    >>> compact(["a/00000.npy", "a/00001.npy", "b.npy"])
    ['a/{00000..00001}.npy', 'b.npy']
    """
    ranges: list[tuple[str, str, str, str]] = []  # before, first, last, after
    for path in paths:
        match = _NUMBER.fullmatch(path)
        before, number, after = match.groups() if match else (path, "", "")
        if ranges and number and ranges[-1][0::3] == (before, after):
            _, first, last, _ = ranges[-1]
            if last and int(number) == int(last) + 1 and len(number) == len(last):
                ranges[-1] = (before, first, number, after)
                continue
        ranges.append((before, number, number, after))
    return [
        f"{before}{first}{after}" if first == last else f"{before}{{{first}..{last}}}{after}"
        for before, first, last, after in ranges
    ]


def numbered(paths: list[str]) -> dict[str, Any]:
    """The paths of a data set's shards as a pattern with their number; see `sharded`.

    >>> numbered(["a/00000.npy", "a/00001.npy"])
    {'pattern': 'a/{shard}.npy', 'shards': 2}
    """
    folder, slash, name = paths[0].rpartition("/")
    pattern = {"pattern": folder + slash + name.replace("00000", "{shard}"), "shards": len(paths)}
    if sharded(pattern) != paths:
        raise ValueError(f"these are not the files of numbered shards: {paths[:2]} ...")
    return pattern


def sharded(files: dict[str, Any]) -> list[str]:
    """The paths of `{"pattern": "…/{shard}.parquet", "shards": n}`."""
    folder, slash, name = files["pattern"].rpartition("/")
    names = (name.replace("{shard}", f"{i:05d}") for i in range(files["shards"]))
    return [folder + slash + name for name in names]
