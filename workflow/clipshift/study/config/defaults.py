"""Defaults of top-level keys that follow from other blocks: the only block that can be meant.

A configuration file may leave these keys out; the typed configuration always has them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Only:
    """A top-level key that names a block: the only one of its kind that fits."""

    kind: str
    what: str
    fits: Callable[[Mapping[str, Any]], bool] = lambda block: True

    def candidates(self, raw: Mapping[str, Any]) -> list[str]:
        """Names of the blocks that can be meant, in the order of the file."""
        blocks = raw.get(self.kind)
        named = blocks.items() if isinstance(blocks, Mapping) else ()
        return [name for name, block in named if isinstance(block, Mapping) and self.fits(block)]

    def lacking(self, raw: Mapping[str, Any]) -> str:
        """Why the key has no default in this configuration."""
        if several := self.candidates(raw):
            return f"needed, as several can be meant: {several}"
        return f"needed, as `{self.kind}` has none that can be meant (default: {self.what})"


ONLY = {
    "pool": Only("pools", "the only pool"),
    "reference": Only(
        "sets", "the only set with `role: reference`", lambda b: b.get("role") == "reference"
    ),
    "encoder": Only(
        "encoders", "the only encoder of another kind than `run`", lambda b: b.get("kind") != "run"
    ),
    "model": Only("models", "the only model"),
}
SPLITS = {"full": {"recipe": "full"}}

# For the page of all keys.
IN_WORDS = {key: only.what for key, only in ONLY.items()} | {"splits": "`{full: {recipe: full}}`"}


def filled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A raw configuration with the keys that follow from its blocks, where one block fits.

    >>> filled({"pools": {"web": {}}, "models": {"a": {}, "b": {}}})["pool"]
    'web'
    """
    candidates = {key: only.candidates(raw) for key, only in ONLY.items()}
    single = {key: names[0] for key, names in candidates.items() if len(names) == 1}
    return {"splits": SPLITS} | single | dict(raw)
