"""What the types of a configuration mark, found by one walk; references among it are checked."""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel

from clipshift.study.config.names import Ref

# Names that a message spells out.
MOST_LISTED = 50


M = TypeVar("M")


def references(value: Any) -> Iterator[tuple[str, str, str]]:
    """(where, kind, name) of every reference in a block, in the order of its fields."""
    for path, mark, name in marked(value, Ref):
        if isinstance(name, str):
            yield ".".join(part for part in path if isinstance(part, str)), mark.kind, name


def marked(
    value: Any, kind: type[M], hint: Any = None, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], M, Any]]:
    """(path, mark, value) of every value of a block whose type has a mark of this kind."""
    if isinstance(value, BaseModel):
        for key, field in type(value).model_fields.items():
            part, place = getattr(value, key), (*path, key)
            yield from ((place, mark, part) for mark in field.metadata if isinstance(mark, kind))
            yield from marked(part, kind, field.annotation, place)
        return
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from ((path, mark, value) for mark in inner[1:] if isinstance(mark, kind))
        yield from marked(value, kind, inner[0], path)
    elif origin in (Union, UnionType):
        for member in inner:
            yield from marked(value, kind, member, path)
    elif isinstance(value, Mapping):
        key_hint, value_hint = inner or (None, None)
        for key, part in value.items():
            yield from marked(key, kind, key_hint, path)
            yield from marked(part, kind, value_hint, (*path, key))
    elif isinstance(value, list | tuple):
        each = origin is tuple and ... not in inner
        for i, part in enumerate(value):
            yield from marked(part, kind, inner[i if each else 0] if inner else None, (*path, i))


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
