"""Kinds for texts: csv, json, yaml and lists, and for drawings."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.mutants import Unsuitable, kind
from tests.fuzz.mutants.values import DEEP, SVGS

TEXT = (".csv", ".tsv", ".json", ".jsonl", ".yaml", ".txt")
WORDS = (
    "", " ", "null", "NaN", "nan", "inf", "-1", "0", "1", "2", "1e999", "1e-400", "1" * 5000,
    "true", "[]", "{}", "\u00b2", "\u0663", "0x10", "1_000", "150%", "1,5", "2024-13-45", "\x00",
    "x" * 300_000, "'; drop table x; --", "$(id)", "../../x", "\ud800",
)  # fmt: skip


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


for _name, _code in (("utf16", "utf-16"), ("bom", "utf-8-sig"), ("utf32", "utf-32")):

    @kind(f"text-{_name}", *TEXT)
    def _encoded(path: Path, chance: Random, code: str = _code) -> None:
        path.write_bytes(_text(path).encode(code, "replace"))


@kind("text-latin1", *TEXT)
def latin1(path: Path, chance: Random) -> None:
    data = path.read_bytes()
    at = chance.randrange(len(data) + 1)
    path.write_bytes(data[:at] + b"\xe9" + data[at:])


@kind("text-crlf", *TEXT)
def crlf(path: Path, chance: Random) -> None:
    _write(path, _text(path).replace("\n", chance.choice(("\r\n", "\r", "\n\n", "\u2028"))))


@kind("text-word", *TEXT)
def word(path: Path, chance: Random) -> None:
    """A number or a word becomes an odd one."""
    text = _text(path)
    found = list(re.finditer(r"[\w.@:/-]+", text))
    if not found:
        raise Unsuitable
    match = chance.choice(found)
    _write(path, text[: match.start()] + chance.choice(WORDS) + text[match.end() :])


@kind("text-line", *TEXT)
def line(path: Path, chance: Random) -> None:
    """A line comes twice, is gone, is empty, or is in another place."""
    lines = _text(path).splitlines(keepends=True)
    if not lines:
        raise Unsuitable
    at = chance.randrange(len(lines))
    other = chance.randrange(len(lines) + 1)
    match chance.randrange(4):
        case 0:
            lines.insert(other, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at] = "\n"
        case 3:
            lines.insert(other, lines.pop(at))
    _write(path, "".join(lines))


def _cells(path: Path) -> tuple[list[str], int, str]:
    lines = _text(path).splitlines()
    if not lines:
        raise Unsuitable
    return lines, 0, "\t" if path.suffix == ".tsv" else ","


@kind("csv-bigfield", ".csv", ".tsv")
def bigfield(path: Path, chance: Random) -> None:
    lines, _, mark = _cells(path)
    at = chance.randrange(len(lines))
    cells = lines[at].split(mark)
    cells[chance.randrange(len(cells))] = "x" * 200_000
    lines[at] = mark.join(cells)
    _write(path, "\n".join(lines) + "\n")


@kind("csv-cells", ".csv", ".tsv")
def cells(path: Path, chance: Random) -> None:
    """A row with a cell too few, too many, empty, or with an open quote."""
    lines, _, mark = _cells(path)
    at = chance.randrange(len(lines))
    row = lines[at].split(mark)
    place = chance.randrange(len(row))
    match chance.randrange(4):
        case 0:
            del row[place]
        case 1:
            row.insert(place, "x")
        case 2:
            row[place] = ""
        case 3:
            row[place] = '"' + row[place]
    lines[at] = mark.join(row)
    _write(path, "\n".join(lines) + "\n")


@kind("csv-marks", ".csv", ".tsv")
def marks(path: Path, chance: Random) -> None:
    lines, _, mark = _cells(path)
    _write(path, "\n".join(lines).replace(mark, chance.choice((";", "|", "\t", ", "))) + "\n")


@kind("csv-empty", ".csv", ".tsv")
def empty(path: Path, chance: Random) -> None:
    lines, _, _ = _cells(path)
    _write(path, chance.choice(("\n", lines[0] + "\n", lines[0], "\n" + "\n".join(lines))))


@kind("json-deep", ".json", ".jsonl")
def deep(path: Path, chance: Random) -> None:
    path.write_bytes(chance.choice((b"[" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP)))


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [at] * bool(at) + [p for k, v in inner for p in _places(v, (*at, k))]


ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1.5, 1e308, float("nan"), float("inf"), 10**30, "", "x", "1", [], {},
    [[]], {"a": 1}, "\ud800", [None], 2**63,
)  # fmt: skip


def _json_change(path: Path, chance: Random, name: str) -> None:
    text = _text(path)
    try:
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        at = chance.randrange(len(lines))
        value = json.loads(lines[at])
    except ValueError:
        raise Unsuitable from None
    places = _places(value)
    if not places:
        raise Unsuitable
    place = chance.choice(places)
    holder = value
    for part in place[:-1]:
        holder = holder[part]
    last = place[-1]
    match name:
        case "value":
            holder[last] = chance.choice(ODD)
        case "drop":
            del holder[last]
        case "rename":
            if not isinstance(holder, dict):
                raise Unsuitable
            holder[last + "x"] = holder.pop(last)
        case "wrap":
            holder[last] = chance.choice(([holder[last]], {"x": holder[last]}, str(holder[last])))
    lines[at] = json.dumps(value)
    _write(path, "\n".join(lines) + "\n")


for _way in ("value", "drop", "rename", "wrap"):

    @kind(f"json-{_way}", ".json", ".jsonl")
    def _json(path: Path, chance: Random, way: str = _way) -> None:
        _json_change(path, chance, way)


@kind("json-bigint", ".json", ".jsonl")
def bigint(path: Path, chance: Random) -> None:
    text = _text(path)
    found = list(re.finditer(r"\d+", text))
    if not found:
        raise Unsuitable
    match = chance.choice(found)
    _write(path, text[: match.start()] + "9" * 5000 + text[match.end() :])


@kind("json-twice", ".json", ".jsonl")
def twice(path: Path, chance: Random) -> None:
    """A key of an object comes twice."""
    text = _text(path)
    found = re.search(r'"(\w+)":', text)
    if not found:
        raise Unsuitable
    _write(path, text.replace("{", f'{{"{found[1]}": {chance.choice(("1", "null"))}, ', 1))


@kind("yaml-deep", ".yaml")
def yaml_deep(path: Path, chance: Random) -> None:
    _write(path, _text(path) + "x: " + chance.choice(("[", "{a: ", "- ")) * DEEP)


@kind("yaml-bomb", ".yaml")
def yaml_bomb(path: Path, chance: Random) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    _write(path, "\n".join(lines) + "\n" + _text(path))


YAML_ODD = (
    "2024-13-45", "2001-01-01", "1" * 5000, "0o17", "0b1", "1_0", "1e3", ".inf", ".nan", "~", "[]",
    "{}", "- 1", "!!python/object/apply:os.getcwd []", "!!binary x", "!!set {a}", "*nothing",
    "yes", "-1", "0", "''", "'\u00b2'", '"\\ud800"', "1:30", "{a: b}", "[[[]]]", "999999999999999",
)  # fmt: skip


@kind("yaml-value", ".yaml")
def yaml_value(path: Path, chance: Random) -> None:
    lines = _text(path).splitlines()
    places = [i for i, one in enumerate(lines) if re.match(r"\s*[\w-]+: *\S", one)]
    if not places:
        raise Unsuitable
    at = chance.choice(places)
    lines[at] = lines[at].partition(":")[0] + ": " + chance.choice(YAML_ODD)
    _write(path, "\n".join(lines) + "\n")


@kind("yaml-rename", ".yaml")
def yaml_rename(path: Path, chance: Random) -> None:
    lines = _text(path).splitlines()
    places = [i for i, one in enumerate(lines) if re.match(r"\s*[\w-]+:", one)]
    if not places:
        raise Unsuitable
    at = chance.choice(places)
    key = chance.choice(("x", "1", "null", "[a]", "? {a: b}", "<<", "true", "2001-01-01"))
    lines[at] = re.sub(r"[\w-]+:", key + ":", lines[at], count=1)
    _write(path, "\n".join(lines) + "\n")


@kind("yaml-twice", ".yaml")
def yaml_twice(path: Path, chance: Random) -> None:
    """A key of a block comes twice."""
    lines = _text(path).splitlines()
    places = [i for i, one in enumerate(lines) if re.match(r"\s*[\w-]+: *\S", one)]
    if not places:
        raise Unsuitable
    at = chance.choice(places)
    lines.insert(at, lines[at])
    _write(path, "\n".join(lines) + "\n")


for _svg in SVGS:

    @kind(f"srcimg-svg_{_svg}", ".svg")
    def _drawing(path: Path, chance: Random, which: str = _svg) -> None:
        path.write_bytes(SVGS[which])
