"""Predictions of a test set from tables as people have them: csv, tsv, json, jsonl or parquet.

Values are compared as text after what programs do to them is undone: `3`, `3.0` and ` 3` are one
class, as are the two Unicode forms of an accent; a list of the top k stands for its first. The case
of letters counts. A row without a value is counted and is neither right nor wrong.
"""

import ast
import csv
import gzip
import io
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.core.csv_file import CELL
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.core.readable import reading
from clipshift.core.sniff import explain, regular_file

TRUE, FALSE = {"true", "1", "t", "yes"}, {"false", "0", "f", "no"}
# Names that a column is known by, without case, in order of preference.
NAMES = {
    "key": ("key", "test_key", "image_path", "image_id", "sample_id", "file_name", "filename",
            "path", "image", "file", "uid", "id", "__key__"),
    "correct": ("correct", "is_correct", "hit"),
    "label": ("label", "target", "y_true", "true_label", "ground_truth", "gt", "truth", "true",
              "labels", "targets"),
    "predicted": ("predicted", "prediction", "pred", "y_pred", "predicted_label", "pred_label",
                  "preds", "predictions", "top1", "topk", "top5"),
    "class_name": ("class_name", "class"),
    "test_set": ("test_set",),
}  # fmt: skip
# What programs write where there is no value.
_MISSING = {"", "nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NA", "N/A", "n/a", "NaT"}
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
# Scalars as numpy and torch print them, and bytes as Python does.
_PRINTED = re.compile(r"(?:np\.|numpy\.)?(?:str_|bytes_|u?int\d+|float\d+|bool_?|tensor)\((.*)\)")
# Bytes of text that are read at most: a packed file may hold any number.
MOST = 1 << 29
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".pq")

Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Predictions:
    """Predictions aligned with the test items.

    Attributes:
        known: (M,) bool, whether the item has a prediction.
        correct: (M,) bool, False where unknown.
        labels: the item's class as text, empty where unknown.
        rows, unused: rows with a key and values, and those whose key is no test item.
        left_out: other rows, by reason.
        said: which columns are read, where nobody said it.
    """

    known: np.ndarray
    correct: np.ndarray
    labels: list[str]
    rows: int
    unused: int
    left_out: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """One row of predictions, as text; `right` None: it has no value."""

    right: bool | None
    label: str
    values: tuple[Any, ...]


def read_predictions(
    path: Path, keys: Sequence[str], test_set: str | None, names: Mapping[str, str] | None = None
) -> Predictions:
    """Read predictions and align them with the test keys.

    Args:
        names: field of `NAMES` -> the file's name of it; what is not named is guessed.

    Raises:
        ClipshiftError: columns are missing, a key occurs twice with other values, a value is not
            true or false, or no key is a test item's.
    """
    columns = _columns(path)
    found, said = _named(path, columns, names or {})
    if test_set is not None:
        if "test_set" not in found:
            raise ClipshiftError(f"{path} has no column test_set, by which --test-set chooses")
        sets = columns[found["test_set"]]
        chosen = [i for i, value in enumerate(sets) if text(value) == text(test_set)]
        columns = {c: [values[i] for i in chosen] for c, values in columns.items()}
        if not chosen:
            raise ClipshiftError(f"{path} has no row with the test_set {test_set!r}")
    fields = {name: columns[column] for name, column in found.items()}
    left_out: Counter[str] = Counter()
    rows = _rows(path, fields, left_out, several="test_set" in found and test_set is None)
    places = [_place(rows, key, twins) for key, twins in _twins(keys)]
    known = np.array([row is not None for row in places])
    if not known.any():
        raise ClipshiftError(
            f"{path}: none of its {len(rows)} keys is a test item's (the first is "
            f"{next(iter(rows), None)!r}, the first test item is {keys[0]!r}); left out: "
            f"{dict(left_out)}. --column key=NAME names another column of keys"
        )
    used = len({id(row) for row in places if row is not None})
    correct = np.array([bool(row and row.right) for row in places])
    labels = [row.label if row else "" for row in places]
    return Predictions(known, correct, labels, len(rows), len(rows) - used, left_out, said)


def text(value: Any) -> str | None:
    """A cell as the text that it is compared by; None: it has no value.

    >>> [text(v) for v in (3, 3.0, " 3.0", "np.str_('a')", [5, 1], "[5, 1]", float("nan"), "cat ")]
    ['3', '3', '3', 'a', '5', '5', None, 'cat']
    """
    if isinstance(value, Mapping):
        raise ClipshiftError(f"{value!r} is a structure of several values")
    if isinstance(value, list | tuple | np.ndarray):
        return text(value[0]) if len(value) else None
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    plain = unicodedata.normalize("NFC", str(value)).strip()
    if printed := _PRINTED.fullmatch(plain):
        return text(_unquoted(printed[1].partition(", dtype")[0]))
    if re.fullmatch(r"b(['\"]).*\1", plain):
        return text(_unquoted(plain[1:]))
    if plain.startswith("[") and plain.endswith("]"):
        return text(_listed(plain))
    if plain in _MISSING:
        return None
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain


def _unquoted(words: str) -> str:
    words = words.strip()
    return words[1:-1] if len(words) > 1 and words[0] == words[-1] and words[0] in "'\"" else words


def _listed(words: str) -> list[Any] | str:
    """The values of a printed list, also of numpy's without commas; else the text in a bracket."""
    for form in (words, re.sub(r"(?<=[^\s,\[])\s+(?=[^\s,\]])", ", ", words)):
        try:
            found = ast.literal_eval(form)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    return [_unquoted(words[1:-1].split(",", maxsplit=1)[0])]


def _named(
    path: Path, columns: Columns, names: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Field -> column, by name or by guess; and what was guessed."""
    if unknown := sorted(set(names) - set(NAMES)):
        raise ClipshiftError(f"--column: no such field {unknown}; fields: {', '.join(NAMES)}")
    if lacking := sorted(c for c in names.values() if c not in columns):
        raise ClipshiftError(f"{path} has no column {lacking}; it has {sorted(columns)}")
    found, said = dict(names), []
    folded: dict[str, str] = {}
    for column in columns:
        folded.setdefault(column.strip().casefold(), column)
    for name, known in NAMES.items():
        guess = next((folded[k] for k in known if k in folded), None)
        if name in found or guess is None or guess in names.values():
            continue
        found[name] = guess
        if guess != name and name not in ("class_name", "test_set"):
            said.append(f"{path}: the column {guess!r} is read as {name}")
    if "key" not in found:
        raise ClipshiftError(
            f"{path} has neither a column key nor test_key: {sorted(columns)}; name it by "
            "--column key=NAME"
        )
    if {"label", "predicted"} & set(names) and "correct" not in names:
        found.pop("correct", None)
    if "correct" not in found and not {"label", "predicted"} <= set(found):
        raise ClipshiftError(
            f"{path} needs the column correct, or label and predicted; it has {sorted(columns)}; "
            "--column label=NAME names one"
        )
    read = {"key", "correct" if "correct" in found else "predicted", "label"}
    return found, [line for line in said if line.rpartition(" ")[2] in read]


def _rows(path: Path, fields: Columns, left_out: Counter[str], several: bool) -> dict[str, _Row]:
    """Rows by key; those without a key or a value, and repeats, are counted."""
    rows: dict[str, _Row] = {}
    for number, cells in enumerate(zip(*fields.values(), strict=True)):
        cell = dict(zip(fields, cells, strict=True))
        try:
            if isinstance(cell["key"], list):
                raise ClipshiftError(f"the key {cell['key']!r} is a list")
            key = text(cell["key"])
            row = _row(cell)
        except ClipshiftError as error:
            raise ClipshiftError(f"{path}: row {number}: {error}") from None
        if key is None:
            left_out["no key"] += 1
        elif row.right is None:
            left_out["no value"] += 1
        elif key not in rows:
            rows[key] = row
        elif rows[key].values == row.values:
            left_out["the same row again"] += 1
        else:
            remedy = "choose one by --test-set" if several else "each key must occur once"
            raise ClipshiftError(
                f"{path}: the key {key!r} occurs twice with other values (again in row {number}); "
                f"{remedy}"
            )
    _refuse_scores(path, rows, fields)
    return rows


def _row(cell: Mapping[str, Any]) -> _Row:
    label, predicted = _several(cell.get("label")), text(cell.get("predicted"))
    name = text(cell.get("class_name")) or (label[0] if label else "")
    right: bool | None = None
    if "correct" in cell:
        word = text(cell["correct"])
        if word is not None and word.lower() not in TRUE | FALSE:
            raise ClipshiftError(f"correct = {word!r}, neither true nor false")
        right = None if word is None else word.lower() in TRUE
    elif label and predicted is not None:
        right = predicted in label
    said = (tuple(label), predicted, right, text(cell.get("test_set")))
    return _Row(right, name, said)


def _several(value: Any) -> list[str]:
    """The right answers of an image: one, or each of a list."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        value = _listed(value.strip())
    each = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return [word for word in map(text, each) if word is not None]


def _refuse_scores(path: Path, rows: Mapping[str, _Row], fields: Columns) -> None:
    """Raise `ClipshiftError` where predictions are fractions and labels whole numbers."""
    if "correct" in fields or not rows:
        return
    whole = all(re.fullmatch(r"\d+", word) for row in rows.values() for word in row.values[0])
    for key, row in rows.items():
        if whole and re.fullmatch(r"[+-]?\d*\.\d+(e[+-]?\d+)?", row.values[1], re.IGNORECASE):
            raise ClipshiftError(
                f"{path}: the prediction of {key!r} is {row.values[1]}, a score and no class; name "
                "the column of predicted classes by --column predicted=NAME"
            )


def _twins(keys: Sequence[str]) -> list[tuple[str, bool]]:
    """Every key, and whether another one differs only in what `text` undoes."""
    counts = Counter(map(text, keys))
    return [(key, counts[text(key)] > 1) for key in keys]


def _place(rows: Mapping[str, _Row], key: str, twins: bool) -> _Row | None:
    if key in rows or twins:
        return rows.get(key)
    return rows.get(text(key) or "")


def _columns(path: Path) -> Columns:
    kind = path.suffix.lower()
    packed = kind == ".gz"
    if packed:
        kind = Path(path.stem).suffix.lower()
    if kind in (".parquet", ".pq") or kind not in _SUFFIXES:
        table = read_parquet(path)
        with reading(path, "parquet"):
            cells: Columns = table.to_pydict()
        return cells
    regular_file(path)
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            data = stream.read(MOST + 1)
        if not data:
            raise ClipshiftError(f"{path} is empty: get it again")
        if len(data) > MOST:
            raise ValueError(f"it holds more than {MOST >> 20} MiB of text")
        content = data.decode("utf-16" if data[:2] in _UTF_16 else "utf-8-sig")
        if kind in (".jsonl", ".ndjson"):
            return _of_records([json.loads(line) for line in content.splitlines() if line.strip()])
        return _of_json(json.loads(content)) if kind == ".json" else _of_csv(path, content, kind)
    except (ValueError, RecursionError, OSError, EOFError, csv.Error, zlib.error) as error:
        why = explain(path) if not packed else None
        raise ClipshiftError(
            f"{path} {why}" if why else f"{path} is not a readable {kind[1:]} file: {error}"
        ) from error


def _of_csv(path: Path, content: str, kind: str) -> Columns:
    head = content.partition("\n")[0]
    mark = "\t" if kind == ".tsv" else max(",\t;", key=lambda m: (head.count(m), m == ","))
    csv.field_size_limit(CELL)
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True, delimiter=mark)
    rows = list(reader)
    names = [str(name).strip() for name in reader.fieldnames or []]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ClipshiftError(f"{path}: two columns are called {twice[0]!r}; rename one")
    for line, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise ClipshiftError(f"{path}: row {line} has another number of fields than the header")
    return {str(name).strip(): [row[name] for row in rows] for name in reader.fieldnames or []}


def _of_json(value: Any) -> Columns:
    """Records, columns, or records by key."""
    if isinstance(value, list):
        return _of_records(value)
    if not isinstance(value, dict) or not value:
        raise ValueError("expected a list of rows, or an object of columns")
    if not all(isinstance(v, dict) for v in value.values()):
        if all(isinstance(v, list) for v in value.values()):
            if len({len(v) for v in value.values()}) > 1:
                raise ValueError("its columns differ in length")
            return {str(name): list(cells) for name, cells in value.items()}
        raise ValueError("expected a list of rows, or an object of columns")
    known = {name for names in NAMES.values() for name in names}
    if known & {str(name).casefold() for name in value}:  # as pandas writes a table
        order = list(dict.fromkeys(index for cells in value.values() for index in cells))
        return {str(name): [cells.get(i) for i in order] for name, cells in value.items()}
    return _of_records([{"key": key, **row} for key, row in value.items()])


def _of_records(rows: list[Any]) -> Columns:
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row is no object")
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}
