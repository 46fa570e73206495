"""Sweeps: one split block with lists makes many splits, named by the pattern that is its key.

`near_{set}_{keep}: {recipe: near, sets: [val, sketch], keep: [0.25, 0.5]}` makes `near_val_25`,
`near_val_50`, `near_sketch_25` and `near_sketch_50`. Expanded when a configuration is read, before
it is validated, so nothing else knows of sweeps.

In the lists of `figures` and `reshard`, a name with `*` stands for all splits that fit and are
trained.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import chain, product
from math import prod
from typing import Any

PLACEHOLDER = re.compile(r"\{(.*?)\}")
# Splits of one pattern.
MOST = 10_000
# Blocks with lists of splits.
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
        SweepError: unknown placeholder, no list, empty list, two splits of one name, or a name
            with `*` that no trained split fits.
    """
    if not isinstance(raw.get("splits"), Mapping):
        return dict(raw)
    splits = {name: split for name, (split, _) in _splits(raw["splits"]).items()}
    blocks = {n: s for n, s in splits.items() if isinstance(n, str) and isinstance(s, Mapping)}
    trained = [name for name, block in blocks.items() if block.get("seeds") != []]
    known = dict(raw) | {"splits": splits}
    for key in _LISTS & raw.keys():
        known[key] = _listed(raw[key], trained, (key,))
    return known


def origins(raw: Mapping[str, Any]) -> dict[str, str]:
    """Name of a split that a sweep made -> the pattern that made it."""
    blocks = raw.get("splits")
    made = _splits(blocks) if isinstance(blocks, Mapping) else {}
    return {name: key for name, (_, key) in made.items() if name != key}


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


def _splits(blocks: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Name -> (block, the key that it is written under)."""
    made: dict[str, tuple[Any, str]] = {}
    for key, value in blocks.items():
        # A list below a pattern holds several blocks of that pattern, one after the other.
        listed = isinstance(value, list) and value and PLACEHOLDER.search(str(key))
        members = (_members(key, block) for block in (value if listed else [value]))
        for name, split in chain.from_iterable(members):
            if name in made:
                other = made[name][1]
                raise SweepError(("splits", key), f"{name!r} is there already (from {other!r})")
            made[name] = split, key
    return made


def _members(key: str, block: Any) -> Iterator[tuple[str, Any]]:
    """(name, block) of every split of a pattern: the last of the block's lists varies fastest."""
    placeholders = PLACEHOLDER.findall(str(key))
    if not placeholders:
        yield key, block
        return
    if not isinstance(block, Mapping):
        raise SweepError(("splits", key), "a sweep needs a block with lists, or several blocks")
    try:
        axes = {_axis(block, placeholder): placeholder for placeholder in placeholders}
        values = [_values(block[axis], axis, axes[axis]) for axis in block if axis in axes]
    except ValueError as error:
        raise SweepError(("splits", key), str(error)) from None
    if (number := prod(map(len, values))) > MOST:
        raise SweepError(("splits", key), f"makes {number:,} splits; at most {MOST:,}")
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


def _listed(value: Any, trained: list[str], path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(part, trained, (*path, str(key))) for key, part in value.items()}
    listed = isinstance(value, list) and all(isinstance(name, str) for name in value)
    if not listed or not any("*" in name for name in value):
        return value  # as it is: a contrast may name a split twice
    names = (_fitting(name, trained, path) if "*" in name else [name] for name in value)
    return list(dict.fromkeys(chain.from_iterable(names)))


def _fitting(pattern: str, trained: list[str], path: tuple[str, ...]) -> list[str]:
    if fitting := [name for name in trained if fnmatchcase(name, pattern)]:
        return fitting
    raise SweepError(path, f"no split that is trained fits {pattern!r}")
