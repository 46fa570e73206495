"""Reading configurations, from files or Snakemake's dictionary, with errors for people."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.yaml_file import read_yaml
from clipshift.study.config import defaults, scale, sweeps
from clipshift.study.config.study import Config

# Faults of one message, and letters of a key in it.
MOST_FAULTS = 300
LONGEST_KEY = 80

Contents = Mapping[Path, dict[str, Any]]


def load(*files: Path) -> Config:
    """Read configuration files, see `merged`."""
    return parse(merged(*files), files)


def merged(*files: Path) -> dict[str, Any]:
    """The keys of configuration files; as in Snakemake they are merged, and the later ones win."""
    config: dict[str, Any] = {}
    for file in files:
        config = merge(config, _read(file))
    return config


def merge(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two dictionaries of keys as one; the second wins."""
    both = {
        key: merge(first[key], second[key])
        for key in first.keys() & second.keys()
        if isinstance(first[key], dict) and isinstance(second[key], dict)
    }
    return first | second | both


def parse(raw: Mapping[str, Any], files: Sequence[Path] = ()) -> Config:
    """Fill in defaults, spell out sweeps, validate, and make the study smaller (`scale`).

    Args:
        raw: the (merged) dictionary.
        files: the files that it came from, to name the guilty one; they are read for what a
            dictionary does not show, such as a key that is there twice.

    Raises:
        ClipshiftError: one line per fault: file, key, what is wrong, and the nearest valid key.
    """
    return _scaled(raw, files)[0]


def changes(raw: Mapping[str, Any]) -> list[scale.Change]:
    """What the block `scale` of a dictionary changes in the study; none without it."""
    return _scaled(raw)[1] if raw.get("scale") else []


def _scaled(
    raw: Mapping[str, Any], files: Sequence[Path] = ()
) -> tuple[Config, list[scale.Change]]:
    """The configuration, and what is smaller in it than in the full study."""
    whole = _validated(raw, files)
    if whole.scale is None:
        return whole, []
    made = scale.changes(whole)
    smaller = scale.changed(sweeps.expanded(defaults.filled(raw)), made)
    try:
        return _validated(smaller), made
    except ClipshiftError as error:
        raise ClipshiftError(f"made smaller by the block `scale`, {error}") from None


def _validated(raw: Mapping[str, Any], files: Sequence[Path] = ()) -> Config:
    contents = {file: _read(file) for file in files}
    try:
        return Config.model_validate(sweeps.expanded(defaults.filled(raw)))
    except sweeps.SweepError as error:
        lines = [f"{_file_of(error.path, contents)}{_joined(error.path)}: {error}"]
    except ValidationError as error:
        origins = sweeps.origins(raw)
        faults = error.errors(include_url=False, include_context=False)
        lines = [_explain(dict(fault), contents, origins) for fault in faults[:MOST_FAULTS]]
        if more := len(faults) - len(lines):
            lines.append(f"and {more:,} more")
    raise ClipshiftError("the configuration is not valid:\n  " + "\n  ".join(lines))


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_yaml(path)
    except ClipshiftError as error:
        raise ClipshiftError(f"configuration {error}") from None
    if not isinstance(value, dict):
        raise ClipshiftError(f"configuration {path} holds no keys")
    return value


def _joined(path: Sequence[Any]) -> str:
    parts = (str(part) for part in path)
    return ".".join(p if len(p) <= LONGEST_KEY else f"{p[:LONGEST_KEY]}..." for p in parts)


def _explain(fault: dict[str, Any], contents: Contents, origins: Mapping[sweeps.Place, str]) -> str:
    loc = tuple(fault["loc"])
    path = _config_path(loc)
    where = _joined(path) or "configuration"
    for end in range(len(path)):
        if (pattern := origins.get(path[: end + 1])) is not None:
            path, where = (*path[:end], pattern), f"{where} (of {pattern!r})"
            break
    file = _file_of(path, contents)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = "unknown key"
        near = difflib.get_close_matches(str(loc[-1]), valid_keys(loc[:-1]), n=1, cutoff=0.5)
        if near:
            message += f"; did you mean {near[0]!r}?"
    elif fault["type"] == "missing" and where in defaults.ONLY:
        message = defaults.ONLY[where].lacking(fault["input"])
    return f"{file}{where}: {message}"


def _config_path(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """Pydantic's location without the tags of discriminated unions, which are not keys."""
    model: Any = Config
    path = []
    for part in loc:
        tagged = _member(model, part)
        if tagged is not None:
            model = tagged
            continue
        deeper = _child(model, part)
        if deeper is None and get_origin(_strip(model)) in (Union, UnionType):
            break  # the branches of a plain union are no keys
        path.append(part)
        model = deeper
    return tuple(path)


def valid_keys(loc: tuple[Any, ...]) -> list[str]:
    """Keys of the block at a location of pydantic's errors (empty where none is known)."""
    model: Any = Config
    for part in loc:
        model = _member(model, part) or _child(model, part)
    return list(model.model_fields) if _is_block(model) else []


def _is_block(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _strip(annotation: Any) -> Any:
    """An annotation without its metadata; of `X | None`, X."""
    while hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    if get_origin(annotation) in (Union, UnionType):
        members = [m for m in get_args(annotation) if m is not type(None)]
        return _strip(members[0]) if len(members) == 1 else annotation
    return annotation


def _member(model: Any, tag: Any) -> Any:
    """The member of a discriminated union with this tag, or None."""
    model = _strip(model)
    if get_origin(model) not in (Union, UnionType):
        return None
    for tagged in get_args(model):
        member = _strip(tagged)
        if any(isinstance(m, Tag) and m.tag == tag for m in getattr(tagged, "__metadata__", ())):
            return member
        if _is_block(member):
            for field in member.model_fields.values():
                if tag in get_args(field.annotation):
                    return member
    return None


def _child(model: Any, part: Any) -> Any:
    """The annotation one key deeper: a field of a block, or the values of a dict or list."""
    model = _strip(model)
    if _is_block(model):
        field = model.model_fields.get(part)
        return _strip(field.annotation) if field else None
    if get_origin(model) in (dict, list, tuple):
        return _strip(get_args(model)[-1])
    return None


def _file_of(path: tuple[Any, ...], contents: Contents) -> str:
    """`FILE: ` of the last file that holds this key, else of the last file, else nothing."""
    holders = [file for file, content in contents.items() if _holds(content, path)]
    holder = (holders or [*contents])[-1:]
    return f"{holder[0]}: " if holder else ""


def _holds(value: Any, path: tuple[Any, ...]) -> bool:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True
