"""The references of a configuration, found by one walk over its types, and checked."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from clipshift.study.config.names import Ref

# Names that a message spells out.
MOST_LISTED = 50


def references(value: Any, hint: Any = None, where: str = "") -> Iterator[tuple[str, str, str]]:
    """(where, kind, name) of every reference in a block, in the order of its fields."""
    if isinstance(value, BaseModel):
        for key, field in type(value).model_fields.items():
            part, place = getattr(value, key), f"{where}.{key}" if where else key
            yield from _marked(part, field.metadata, place)
            yield from references(part, field.annotation, place)
        return
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _marked(value, inner[1:], where)
        yield from references(value, inner[0], where)
    elif origin in (Union, UnionType):
        for kind in inner:
            yield from references(value, kind, where)
    elif isinstance(value, Mapping):
        key_hint, value_hint = inner or (None, None)
        for key, part in value.items():
            yield from references(key, key_hint, where)
            yield from references(part, value_hint, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        each = origin is tuple and ... not in inner
        for i, part in enumerate(value):
            yield from references(part, inner[i if each else 0] if inner else None, where)


def _marked(value: Any, marks: Iterable[Any], where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str):
        yield from ((where, mark.kind, value) for mark in marks if isinstance(mark, Ref))


def check(block: BaseModel, known: Mapping[str, Collection[str] | None]) -> None:
    """Raise ValueError for the first name that is none of its kind.

    Args:
        known: kind -> the names that there are; None: nobody knows before the data are there.
    """
    for where, kind, name in references(block):
        names = known[kind]
        if names is not None and name not in names:
            near = get_close_matches(name, map(str, names), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = f"one of {sorted(names)}"
            if len(names) > MOST_LISTED:
                listed = f"one of the {len(names):,} names of the kind {kind!r}"
            raise ValueError(f"{where}: {name!r} is not {listed}{hint}")
