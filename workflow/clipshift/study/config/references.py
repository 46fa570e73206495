"""References between blocks: a name that is another block's says so in its type.

`sets: list[TestSetName]` is all that a block says; names are checked, and listed, by one walk over
the whole configuration.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from clipshift.study.config.data import Name


@dataclass(frozen=True)
class Ref:
    """Marks a text as the name of a block of some kind (a key of `known` in `check`)."""

    kind: str


PackageName = Annotated[str, Ref("package")]
SourceName = Annotated[Name, Ref("source")]
ClassName = Annotated[str, Ref("class")]
PoolName = Annotated[Name, Ref("pool")]
SetName = Annotated[Name, Ref("set")]
TestSetName = Annotated[Name, Ref("test set")]
# A pool or a labelled set.
DatasetName = Annotated[Name, Ref("dataset")]
EncoderName = Annotated[Name, Ref("encoder")]
ModelName = Annotated[Name, Ref("model")]
SplitName = Annotated[Name, Ref("split")]


def references(value: Any, hint: Any = None, where: str = "") -> Iterator[tuple[str, str, str]]:
    """(where, kind, name) of every reference in a block, in the order of its fields."""
    if isinstance(value, BaseModel):
        for key, field in type(value).model_fields.items():
            own = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            yield from references(getattr(value, key), own, f"{where}.{key}" if where else key)
        return
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if isinstance(value, str):
            yield from ((where, mark.kind, value) for mark in inner[1:] if isinstance(mark, Ref))
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
        hints = inner if origin is tuple and ... not in inner else [next(iter(inner), None)] * len(value)
        for part, kind in zip(value, hints, strict=True):
            yield from references(part, kind, where)


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
            raise ValueError(f"{where}: {name!r} is not one of {sorted(names)}{hint}")
