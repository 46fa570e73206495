"""YAML files that people write, as plain values: what a reader would lose or misread is refused."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.core.sniff import explain, regular_file

# The parser in C is ten times faster; every job of a study reads its configuration.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_BYTES = 16 << 20
MOST_LEVELS = 100
# Values that aliases (`*name`) and merges (`<<`) may make of a file, all spelled out.
MOST_VALUES = 300_000
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_PLAIN = {_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class _Refused(Exception):
    """What is wrong in a file, and where."""

    def __init__(self, mark: Any, what: str) -> None:
        super().__init__(f"line {mark.line + 1}: {what}")


def read_yaml(path: Path) -> Any:
    """The only document of a file: mappings, lists, texts, numbers, booleans and null.

    Raises:
        ClipshiftError: with the line: no UTF-8, no YAML, a key twice in one block, a date, a number
            of thousands of digits, deep nesting, or aliases that spell out to too many values.
    """
    text = _text(path)
    loader = _Loader(text)
    try:
        _refuse_depth(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(loader).size(node)
        return loader.construct_document(node)
    except _Refused as error:
        raise ClipshiftError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise ClipshiftError(f"{path} is not YAML: {_said(error)}") from None
    finally:
        loader.dispose()


def _text(path: Path) -> str:
    try:
        if regular_file(path).stat().st_size > MOST_BYTES:
            raise ClipshiftError(f"{path} is larger than {MOST_BYTES >> 20} MiB; is it YAML?")
        data = path.read_bytes()
    except OSError as error:
        raise ClipshiftError(f"{path}: {error.strerror}") from None
    for mark, name in _MARKS:
        if data.startswith(mark):
            raise ClipshiftError(f"{path} is {name}; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if why := explain(path):
            raise ClipshiftError(f"{path} is not YAML; it {why}") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise ClipshiftError(
            f"{path}, line {line}: the byte 0x{data[error.start]:02x} is no UTF-8; save the file "
            "as UTF-8"
        ) from None


def _refuse_depth(text: str) -> None:
    """Refuse deep nesting among the parser's events, before anything recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_LEVELS:
            raise _Refused(event.start_mark, f"more than {MOST_LEVELS} levels of nesting")


class _Check:
    """What would be lost or misread is refused, in each node once.

    Nodes are few, whatever their aliases spell out to: neither is walked twice.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.seen: dict[int, tuple[int, int]] = {}

    def size(self, node: yaml.Node) -> tuple[int, int]:
        """Values of a node with all that it refers to, and their levels."""
        if id(node) not in self.seen:
            self.seen[id(node)] = MOST_VALUES + 1, 0  # if it is met again below itself
            _refuse_tag(node)
            if isinstance(node, yaml.ScalarNode):
                self._value(node)
            elif isinstance(node, yaml.MappingNode):
                self._keys(node)
            below = [self.size(child) for child in _children(node)]
            values = 1 + sum(number for number, _ in below)
            levels = 1 + max((deep for _, deep in below), default=0)
            if max(values, levels * (MOST_VALUES // MOST_LEVELS)) > MOST_VALUES:
                raise _Refused(
                    node.start_mark,
                    "an alias refers to what it stands in, or aliases make more than "
                    f"{MOST_VALUES:,} values or {MOST_LEVELS} levels",
                )
            self.seen[id(node)] = values, levels
        return self.seen[id(node)]

    def _keys(self, node: yaml.MappingNode) -> None:
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(key.start_mark, "a key is a list or a mapping; expected a text")
            if key.tag == _MERGE:
                continue
            _refuse_tag(key)
            value = self._value(key)
            if value in lines:
                raise _Refused(
                    key.start_mark,
                    f"the key {value!r} is there twice in one block, first in line "
                    f"{lines[value]}; only one of them would count",
                )
            lines[value] = key.start_mark.line + 1

    def _value(self, node: yaml.ScalarNode) -> Any:
        if node.tag == _MERGE:
            return node.value
        if "\0" in node.value:
            raise _Refused(node.start_mark, "a text with the character NUL")
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError, LookupError) as error:
            shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}..."
            why = "has too many digits" if "digits" in str(error) else f"is no {_kind(node)}"
            raise _Refused(node.start_mark, f"{shown!r} {why}") from None


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _kind(node: yaml.Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def _refuse_tag(node: yaml.Node) -> None:
    if _kind(node) == "timestamp":
        raise _Refused(node.start_mark, f"{node.value} is read as a date; put it in quotes")
    if node.tag not in _PLAIN:
        raise _Refused(node.start_mark, f"the tag {node.tag!r} is none of plain YAML's")


def _said(error: yaml.YAMLError) -> str:
    """An error of the parser in one line, with its place."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = cast(Any, error.problem_mark or error.context_mark)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + ", ".join(filter(None, (error.context, error.problem)))
