"""Sweeps: one block with lists makes many splits or classifiers, named by the pattern of its key.

`near_{set}_{keep}: {recipe: near, sets: [val, sketch], keep: [0.25, 0.5]}` makes `near_val_25`,
`near_val_50`, `near_sketch_25` and `near_sketch_50`. Expanded when a configuration is read, before
it is validated, so nothing else knows of sweeps.

In the lists of `figures` and `reshard`, a name with `*` stands for all splits that fit and are
trained, or below `classifiers` for all classifiers that fit.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import chain, product
from math import prod
from typing import Any

PLACEHOLDER = re.compile(r"\{(.*?)\}")
# Where patterns are expanded; what each place makes.
Place = tuple[str, ...]
PLACES: dict[Place, str] = {("splits",): "splits", ("domains", "classifiers"): "classifiers"}
# Of one pattern.
MOST = 10_000
# Blocks with lists of names.
_LISTS = {"figures", "reshard"}
UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "k"))


class SweepError(ValueError):
    """A sweep that cannot be expanded: `path` is that of its key in the configuration."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def expanded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A raw configuration with every sweep spelled out.

    Raises:
        SweepError: unknown placeholder, no list, empty list, two blocks of one name, or a name
            with `*` that no trained split, or no classifier, fits.
    """
    known = dict(raw)
    names: dict[str, list[str]] = {}
    for place, what in PLACES.items():
        blocks = _at(raw, place)
        made = {name: block for name, (block, _) in _made(blocks, place).items()}
        if isinstance(blocks, Mapping):
            known = _with(known, place, made)
        whole = {n: b for n, b in made.items() if isinstance(n, str) and isinstance(b, Mapping)}
        names[what] = [name for name, block in whole.items() if block.get("seeds") != []]
    for key in _LISTS & raw.keys() if isinstance(raw.get("splits"), Mapping) else ():
        known[key] = _listed(raw[key], names, (key,))
    return known


def origins(raw: Mapping[str, Any]) -> dict[Place, str]:
    """Path of a block that a sweep made -> the pattern that made it."""
    return {
        (*place, name): key
        for place in PLACES
        for name, (_, key) in _made(_at(raw, place), place).items()
        if name != key
    }


def _at(raw: Any, place: Place) -> Any:
    """What a configuration holds at a place; None where it has no such key."""
    for key in place:
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _with(raw: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A configuration with another value at a place."""
    key, *rest = place
    return {**raw, key: _with(raw[key], tuple(rest), value) if rest else value}


def label(value: Any) -> str:
    """A value as part of a name: a share in percent, a count in k, M or B where that is short.

    Raises:
        ValueError: the value has no such form.

    >>> label(0.4), label(0.125), label(12_000_000), label(22_500_000), label(460), label(-0.02)
    ('40', '12p5', '12M', '22p5M', '460', 'm2')
    >>> label(["val", "sketch"])
    'val_sketch'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "_".join(map(label, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} has no short name; give one: `{{NAME: {value!r}}}`")
    # By its text: Decimal(0.1) would spell out the binary fraction.
    size, unit = abs(Decimal(str(value))), ""
    if isinstance(value, float):
        size *= 100
    else:
        # With two decimals at most: 22,500,000 is 22p5M, 22,123,456 is written out.
        fitting = ((n, u) for n, u in UNITS if size >= n and size * 100 % n == 0)
        divisor, unit = next(fitting, (1, ""))
        size /= divisor
    return "m" * (value < 0) + f"{size.normalize():f}".replace(".", "p") + unit


def _made(blocks: Any, place: Place) -> dict[str, tuple[Any, str]]:
    """Name -> (block, the key that it is written under)."""
    made: dict[str, tuple[Any, str]] = {}
    for key, value in blocks.items() if isinstance(blocks, Mapping) else ():
        # A list below a pattern holds several blocks of that pattern, one after the other.
        listed = isinstance(value, list) and value and PLACEHOLDER.search(str(key))
        try:
            for part in value if listed else [value]:
                for name, block in _members(key, part, PLACES[place]):
                    if name in made:
                        raise ValueError(f"{name!r} is there already (from {made[name][1]!r})")
                    made[name] = block, key
        except ValueError as error:
            raise SweepError((*place, key), str(error)) from None
    return made


def _members(key: str, block: Any, what: str) -> Iterator[tuple[str, Any]]:
    """(name, block) of all that a pattern makes: the last of the block's lists varies fastest."""
    placeholders = PLACEHOLDER.findall(str(key))
    if not placeholders:
        yield key, block
        return
    if not isinstance(block, Mapping):
        raise ValueError("a sweep needs a block with lists, or several blocks")
    axes = {_axis(block, placeholder): placeholder for placeholder in placeholders}
    values = [_values(block[axis], axis, axes[axis]) for axis in block if axis in axes]
    if (number := prod(map(len, values))) > MOST:
        raise ValueError(f"makes {number:,} {what}; at most {MOST:,}")
    for chosen in product(*values):
        name = key
        for axis, part, _ in chosen:
            name = name.replace(f"{{{axes[axis]}}}", part)
        yield name, {**block, **{axis: value for axis, _, value in chosen}}


def _axis(block: Mapping[str, Any], placeholder: str) -> str:
    """The block's key that a placeholder stands for: its own, or its plural."""
    for axis in (placeholder, f"{placeholder}s"):
        if axis in block:
            return axis
    raise ValueError(f"the block has no key for {{{placeholder}}}, only {list(block)}")


def _values(setting: Any, axis: str, placeholder: str) -> list[tuple[str, str, Any]]:
    """(key, name, value) of all that a key is set to, one after the other."""
    if not isinstance(setting, Mapping | list) or not setting:
        raise ValueError(
            f"{{{placeholder}}} needs a list in `{axis}`, or names and values; at least one"
        )
    pairs = setting.items() if isinstance(setting, Mapping) else [(label(v), v) for v in setting]
    single = axis != placeholder  # `{set}`: each of `sets` alone
    return [(axis, str(n), [v] if single and not isinstance(v, list) else v) for n, v in pairs]


def _listed(value: Any, names: Mapping[str, list[str]], path: Place) -> Any:
    """A value with lists; one below the key `classifiers` names these, any other splits."""
    if isinstance(value, Mapping):
        return {key: _listed(part, names, (*path, str(key))) for key, part in value.items()}
    listed = isinstance(value, list) and all(isinstance(name, str) for name in value)
    if not listed or not any("*" in name for name in value):
        return value  # as it is: a contrast may name a split twice
    what = "classifiers" if path[-1] == "classifiers" else "splits"
    names_of = (_fitting(n, names[what], what, path) if "*" in n else [n] for n in value)
    return list(dict.fromkeys(chain.from_iterable(names_of)))


def _fitting(pattern: str, names: list[str], what: str, path: Place) -> list[str]:
    if fitting := [name for name in names if fnmatchcase(name, pattern)]:
        return fitting
    none = "no split that is trained" if what == "splits" else "no classifier"
    raise SweepError(path, f"{none} fits {pattern!r}")
