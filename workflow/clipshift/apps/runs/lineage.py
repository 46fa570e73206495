"""`clipshift lineage` and `clipshift diff`: where a number comes from, and why two differ."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_csv
from clipshift.study.lineage import Lineage, Made, causes, loaded, read, short

TABLES = "results/tables/"
# Lines of a kind that are printed, where `--all` is not given.
SHOWN = 20

Row = Mapping[str, str]


def lineage(folder: Path, path: str, words: Sequence[str], everything: bool) -> Iterator[str]:
    """What a file was made from, as lines.

    Args:
        words: `column=value` of a row of a table; the inputs are then those that the row's own
            words (names of splits, test sets ...) stand in.
        everything: every file behind it with its hash, not only a count by rules.

    Raises:
        ClipshiftError: the file or the row is not there, or no job made it.
    """
    known = read(folder)
    made = known.of(path)
    yield path
    yield from (f"  {line}" for line in _about(known, made))
    row = row_of(folder / path, words) if words else {}
    if row:
        yield "row"
        yield from (f"  {column}: {value}" for column, value in row.items())
    yield "made from"
    for name, files in chosen(list(known.inputs(made)), row):
        rule = files[0].rule if files else "made by no job"
        digest = files[0].sha256[:12] if len(files) == 1 else f"{len(files)} files"
        yield f"  {name}  {rule}  {digest if files else ''}".rstrip()
    behind, outside = known.behind(made)
    rules = Counter(f.rule for f in behind.values())
    yield f"behind it: {len(behind)} files"
    if everything:
        yield from (f"  {f.path}  {f.rule}  {f.sha256}" for f in behind.values())
    else:
        yield "  " + ", ".join(f"{number} {rule}" for rule, number in sorted(rules.items()))
    if outside:
        yield f"from outside: {len(outside)} files"
        some = outside if everything else outside[:SHOWN]
        yield from (f"  {name}" for name in some)
        if len(outside) > len(some):
            yield f"  and {len(outside) - len(some)} more (--all)"
    others = {f.path: known.changed(f, everything) for f in [made, *behind.values()]}
    changed = [f"  {name} {how}" for name, how in others.items() if how]
    yield f"not as recorded: {len(changed)} files"
    yield from changed


def _about(known: Lineage, made: Made) -> Iterator[str]:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made.date / 1e9))
    yield f"{made.size:,} bytes, {moment}, sha256 {made.sha256}"
    parameters = loaded(made)
    if isinstance(parameters, dict):
        yield f"rule {made.rule}"
        yield from (f"  {key}: {short(value)}" for key, value in parameters.items())
    else:
        yield f"rule {made.rule} {short(parameters)}"
    if run := known.run_of(made):
        yield f"run: {run['command']}"
        yield f"code: clipshift {run['version']} {run['commit']}".rstrip()
        yield f"configuration: {run['configuration']}"
    yield f"again: snakemake --forcerun {made.rule} -- {made.path}"


def row_of(file: Path, words: Sequence[str]) -> Row:
    """The one row of a table in which columns have some values.

    Raises:
        ClipshiftError: it is no table; a word is none of `column=value`; no row, or several.
    """
    if file.suffix != ".csv":
        raise ClipshiftError(f"{file}: only a table (.csv) has rows; leave {' '.join(words)} out")
    rows: list[Row] = [*read_csv(file)]
    columns = list(rows[0]) if rows else []
    for word in words:
        column, equals, value = word.partition("=")
        if not equals or column not in columns:
            raise ClipshiftError(
                f"{word!r}: give COLUMN=VALUE; the columns are {', '.join(columns)}"
            )
        rows = [row for row in rows if row[column] == value]
    if len(rows) != 1:
        more = "" if len(rows) < 2 else "; name further columns"
        raise ClipshiftError(f"{file}: {len(rows)} rows have {' '.join(words)}{more}")
    return rows[0]


def chosen(
    inputs: Sequence[tuple[str, list[Made]]], row: Row
) -> Sequence[tuple[str, list[Made]]]:  # fmt: skip
    """The inputs that a row's words stand in; a word that stands in none chooses nothing.

    >>> some = [("results/eval/near_40.json", []), ("results/eval/rand_40.json", [])]
    >>> [path for path, _ in chosen(some, {"split": "near_40", "n": "300"})]
    ['results/eval/near_40.json']
    """
    for value in row.values():
        parts = set(value.split())
        some = [entry for entry in inputs if parts & _names(entry[0])]
        inputs = some or inputs
    return inputs


def _names(path: str) -> set[str]:
    """What a path names: its folders, and its stem, also without the model and the seed."""
    *folders, name = path.split("/")
    stem = name.partition(".")[0]
    return {*folders, stem, stem.partition("-")[0]}


def diff(one: Path, other: Path, paths: Sequence[str], everything: bool) -> Iterator[str]:
    """Which numbers of two folders differ, and why, as lines.

    Args:
        paths: files (default: all tables that both have).

    Raises:
        ClipshiftError: a file is not known in both.
    """
    a, b = read(one), read(other)
    tables = [p for p in a.files if p.startswith(TABLES)]
    names = list(paths) or [p for p in tables if p in b.files]
    yield from (f"{p}: only in {one}" for p in tables if p not in b.files and not paths)
    more = [p for p in b.files if p.startswith(TABLES) and p not in a.files]
    yield from (f"{p}: only in {other}" for p in more if not paths)
    same = [name for name in names if a.of(name).sha256 == b.of(name).sha256]
    for name in (n for n in names if n not in same):
        moved = list(cells(one / name, other / name)) if name.endswith(".csv") else []
        yield f"{name}: {len(moved)} cells differ" if moved else f"{name}: other content"
        some = moved if everything else moved[:SHOWN]
        yield from (f"  {line}" for line in some)
        if len(moved) > len(some):
            yield f"  and {len(moved) - len(some)} more (--all)"
        yield "  because of"
        why = [f"    {path}: {reason}" for path, reason in causes(a, b, name).items()]
        yield from why if everything else why[:SHOWN]
        if not everything and len(why) > SHOWN:
            yield f"    and {len(why) - SHOWN} more (--all)"
    yield f"{len(same)} of {len(names)} files are the same"


def cells(one: Path, other: Path) -> Iterator[str]:
    """Cells of two tables that differ; rows are known by their columns without numbers."""
    tables = [read_csv(one), read_csv(other)]
    texts = [c for c in (tables[0] or [{}])[0] if not all(_number(r[c]) for r in tables[0])]
    a, b = (
        {(*(r.get(c, "") for c in texts), i): r for r, i in _counted(rows, texts)}
        for rows in tables
    )
    for key in [*a, *(k for k in b if k not in a)]:
        name = " ".join(map(str, key[:-1]))
        if key not in a or key not in b:
            yield f"{name}: only in {one if key in a else other}"
            continue
        for column in dict.fromkeys([*a[key], *b[key]]):
            left, right = a[key].get(column), b[key].get(column)
            if left != right:
                yield f"{name} {column}: {left}, and {right}"


def _counted(rows: Sequence[Row], texts: Sequence[str]) -> Iterator[tuple[Row, int]]:
    """Rows with how many rows before them have the same texts."""
    seen: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        key = tuple(row.get(column, "") for column in texts)
        yield row, seen[key]
        seen[key] += 1


def _number(text: str | None) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
