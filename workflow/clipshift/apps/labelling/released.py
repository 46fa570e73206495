"""`clipshift released`: labels that the paper's authors published, for the keys of a pool or set.

Two data sets on Hugging Face: `brendel-group/LAION-Natural-Rendition` (LAION's metadata in folders
of parquet, one subset a folder, whose name says what it holds) and
`brendel-group/ImageNet-DomainNet-NvR` (labelled samples of test sets). Their keys are their own, so
rows are joined on what both sides know: URL and text, SAMPLE_ID, a file name or the image's hash.
Which columns there are is read from the files. Nothing is aligned by position.

The join is duckdb's, within `memory` and on disk (TMPDIR) for what does not fit; only rows that
concern the pool are kept.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from clipshift.apps.labelling.import_table import (
    WORDS,
    Source,
    label_of,
    source_of,
)
from clipshift.apps.labelling.options import JOINS, Join
from clipshift.apps.labelling.table import LABELS, SCHEMA
from clipshift.core.database import count, database, identifier, literal, reading
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, write_json
from clipshift.datasets.identity import AGREE, check, form

BATCH = 65_536


@dataclass(frozen=True)
class Subset:
    """A folder of the released data; `label` is that of all its rows, None: a column has them."""

    name: str
    label: int | None


def released(
    folder: Path, subsets: list[Subset], pool: Path, out: Path, *, join: Join = "url",
    columns: dict[str, str] | None = None, values: dict[str, int] | None = None,
    annotator: str = "released", memory: float = 4.0, agree: float = AGREE,
) -> dict[str, Any]:  # fmt: skip
    """Write the labels of the pool's keys that the released data have; returns the counts.

    A key whose rows in the released data have different labels (it lies in two subsets) gets none.

    Args:
        agree: see `clipshift.datasets.identity.check`.

    Raises:
        ClipshiftError: a folder or column is missing, a label value is not known, a key of the
            pool occurs twice, or the rows are of other samples.
    """
    given, known = columns or {}, values or {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with database(f"{int(memory * 1024)}MiB") as db:
        db.execute("SET preserve_insertion_order = false")  # the order is the key's, at the end
        sources = [(s, source_of(s.name, _inside(folder, s.name), db)) for s in subsets]
        step_counts: dict[str, Any] = {"pool": _read_pool(db, pool, join)}
        tables = [_select(source, subset, join, given, known, db) for subset, source in sources]
        with reading([file for _, source in sources for file in source.files]):
            _join(db, tables, step_counts, join, str(folder), agree)
        _write(db, out, annotator)
        step_counts["labels"] = _label_counts(db)
    step_counts["released"]["rows_that_are_none"] = sum(
        source.left_out.total() for _, source in sources
    )
    step_counts["join"] = join
    step_counts["subsets"] = {s.name: None if s.label is None else LABELS[s.label] for s in subsets}
    _check(step_counts)
    write_json(out.with_suffix(".account.json"), step_counts)
    return step_counts


def _read_pool(db: duckdb.DuckDBPyConnection, pool: Path, join: Join) -> dict[str, int]:
    """Table `pool`: key, concept, source and the join values a and b."""
    source = source_of("pool", pool, db)
    if "key" not in source.columns:
        raise ClipshiftError(f"{source.files[0]} has no column key; it has {list(source.columns)}")
    first, second = _values(source, join, {})
    texts = [
        source.text(c) if c in source.columns else "NULL::VARCHAR" for c in ("concept", "source")
    ]
    there = f"{source.text('status')} = 'success'" if "status" in source.columns else "true"
    with reading(source.files):
        db.execute(
            f"CREATE TABLE pool AS SELECT {source.text('key', key=True)} AS key, {texts[0]} AS "
            f"concept, {texts[1]} AS source, {first} AS a, {second} AS b FROM {source.scan} "
            f"WHERE {there}"
        )
    if count(db, "FROM pool WHERE key IS NULL"):
        raise ClipshiftError(f"{pool}: a row of its tables has no key; every row needs its own")
    twice = db.execute(
        "SELECT key FROM pool GROUP BY key HAVING count(*) > 1 ORDER BY key LIMIT 1"
    ).fetchone()
    if twice:
        raise ClipshiftError(f"{pool}: the key {twice[0]!r} occurs twice in its tables")
    every = count(db, f"FROM {source.scan}")
    rows, nothing = _row(db, "SELECT count(*), count(*) FILTER (a IS NULL) FROM pool")
    return {"rows": rows, "not_downloaded": every - rows, f"without_{join}": nothing}


def _select(
    source: Source, subset: Subset, join: Join, given: dict[str, str], known: dict[str, int],
    db: duckdb.DuckDBPyConnection,
) -> str:  # fmt: skip
    """A query for label (-1: none), a and b of a subset's rows."""
    first, second = _values(source, join, given)
    if subset.label is not None:
        label = str(subset.label)
    else:
        column = source.column("label", given)
        if column is None:
            raise ClipshiftError(
                f"{source.lacks(('label',))}, or say what all of {subset.name} is: "
                f"--subset {subset.name}=natural"
            )
        label = _label_sql(source, column, known, db)
    return f"SELECT {label} AS label, {first} AS a, {second} AS b FROM {source.scan}"


def _label_sql(
    source: Source, column: str, known: dict[str, int], db: duckdb.DuckDBPyConnection
) -> str:
    """An expression for the label, after a look at every value that occurs."""
    name = identifier(column)
    if source.columns[column] in ("BLOB", "VARCHAR"):
        name = source.text(column)
    with reading(source.files):
        found = db.execute(
            f"SELECT DISTINCT {name} FROM {source.scan} WHERE {name} IS NOT NULL ORDER BY 1 "
            "LIMIT 1000"
        ).fetchall()
    cases = []
    for (value,) in found:
        label = label_of(value, source.class_names.get(column), known)
        if label is None:
            raise ClipshiftError(
                f"{source.files[0]}: the value {value!r} of the column {column!r} is no known "
                f"label ({', '.join(WORDS)}, 0, 1, 2); say what it means: --value {value}=natural"
            )
        cases.append(f"WHEN {literal(str(value))} THEN {label}")
    whens = " ".join(cases)
    return f"CASE CAST({name} AS VARCHAR) {whens} ELSE -1 END" if cases else "-1"


def _values(source: Source, join: Join, given: dict[str, str]) -> tuple[str, str]:
    """Expressions for the two join values of a row; 128-bit hashes of texts stay small in memory.

    Raises:
        ClipshiftError: there is no column for the first one.
    """
    first, second = JOINS[join]
    a = _value(source, first, given)
    if a is None:
        raise source.lacks((first, "image") if first == "sha256" else (first,))
    b = None if second is None else _value(source, second, given)
    if join == "url" and b is None:
        raise source.lacks(("text",))
    return a, b or "NULL::UHUGEINT"


def _value(source: Source, role: str, given: dict[str, str]) -> str | None:
    column = source.column(role, given)
    if role == "sha256" and column is None:
        image = source.column("image", given)
        if image is None or not re.match(r"STRUCT\(.*\bbytes BLOB", source.columns[image]):
            return None
        return f"md5_number(sha256({identifier(image)}.bytes))"
    if column is None:
        return None
    if role == "sample_id":  # LAION's is a float in some files
        source.text(column)  # a list or structure is none
        return f"CAST(TRY_CAST({identifier(column)} AS BIGINT) AS UHUGEINT)"
    if role == "text":
        return f"md5_number({form('caption', source.text(column))})"
    name = source.text(column, key=True)
    if role == "file":  # a path without its suffix, as a webdataset key is
        return f"md5_number(regexp_replace({name}, '\\.[A-Za-z0-9]{{1,5}}$', ''))"
    return f"md5_number({form(role, name)})"


def _join(
    db: duckdb.DuckDBPyConnection, tables: list[str], step_counts: dict[str, Any], join: Join,
    where: str, share: float,
) -> None:  # fmt: skip
    """Table `matched` (key, label, concept, source), and the counts.

    Raises:
        ClipshiftError: the second values of too few rows agree (see `identity.check`).
    """
    union = " UNION ALL ".join(f"({table})" for table in tables)
    rows, unlabelled, nothing = _row(
        db,
        "SELECT count(*), count(*) FILTER (label < 0), count(*) FILTER (label >= 0 AND a IS NULL) "
        f"FROM ({union})",
    )
    # Rows that share the first value with the pool; the others need not be held.
    db.execute(
        f"CREATE TABLE near AS SELECT * FROM ({union}) "
        "WHERE label >= 0 AND a IN (SELECT a FROM pool)"
    )
    # b is unknown (null) where one side has no such column: then a alone decides.
    db.execute(
        "CREATE TABLE grouped AS SELECT a, b, count(*) AS n, min(label) AS low, max(label) AS high "
        "FROM near GROUP BY a, b"
    )
    # Of a key's rows those whose second value is the pool's, too; else those where a side has none,
    # or, by URL, all: it names one image, whatever texts it has.
    otherwise = "true" if join == "url" else "same IS NULL"
    db.execute(
        "CREATE TABLE candidates AS SELECT p.key, g.*, p.b = g.b AS same "
        "FROM pool p JOIN grouped g USING (a)"
    )
    db.execute(
        "CREATE TABLE taken AS SELECT * FROM candidates QUALIFY CASE "
        "WHEN coalesce(bool_or(same) OVER (PARTITION BY key), false) THEN coalesce(same, false) "
        f"ELSE {otherwise} END"
    )
    db.execute(
        "CREATE TABLE pairs AS SELECT key, min(low) AS low, max(high) AS high, "
        "bool_or(same) AS agrees FROM taken GROUP BY key"
    )
    db.execute(
        "CREATE TABLE matched AS SELECT p.key, q.low AS label, p.concept, p.source "
        "FROM pairs q JOIN pool p USING (key) WHERE q.low = q.high"
    )
    matched = count(db, "FROM matched")
    conflicts = count(db, "FROM pairs WHERE low <> high")
    halves = count(
        db,
        "FROM pool WHERE a IN (SELECT a FROM grouped) AND key NOT IN (SELECT key FROM pairs)",
    )
    shared = count(
        db,
        "FROM (SELECT count(*) AS n FROM pool p "
        "JOIN matched m USING (key) GROUP BY p.a, p.b HAVING count(*) > 1)",
        "coalesce(sum(n), 0)",
    )
    used, repeated = _row(
        db,
        "SELECT coalesce(sum(n), 0), coalesce(sum(n - 1), 0) "
        "FROM (SELECT DISTINCT a, b, n FROM taken)",
    )
    agree, differ = _row(
        db, "SELECT count(*) FILTER (agrees), count(*) FILTER (NOT agrees) FROM pairs"
    )
    if second := JOINS[join][1]:
        check(second, agree, differ + halves, join, where, share)
    another = count(db, "FROM pairs WHERE low = high AND NOT agrees")
    pool = step_counts["pool"]
    blank = pool[next(k for k in pool if k.startswith("without_"))]
    step_counts["pool"] = pool | {
        "matched": matched,
        "left_out_for_different_labels": conflicts,
        "only_half_equal": halves,
        "unmatched": pool["rows"] - blank - matched - conflicts - halves,
        "matched_with_equal_values": int(shared),
        "matched_with_another_text": another,
    }
    step_counts["released"] = {
        "rows": rows,
        "without_label": unlabelled,
        "without_value": nothing,
        "joined": int(used),
        "joined_repeats": int(repeated),
        "not_joined": rows - unlabelled - nothing - int(used),
    }


def _write(db: duckdb.DuckDBPyConnection, out: Path, annotator: str) -> None:
    """Stream the labels by key; keys are compared as bytes."""
    reader: Any = db.sql(
        f"SELECT key, label::TINYINT AS label, concept, source, {literal(annotator)} AS annotator "
        "FROM matched ORDER BY key"
    ).to_arrow_reader(BATCH)
    with atomic(out) as stream, pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch.cast(SCHEMA))


def _label_counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    rows = db.execute("SELECT label, count(*) FROM matched GROUP BY label").fetchall()
    found = {int(label): int(count) for label, count in rows}
    return {name: found.get(label, 0) for label, name in enumerate(LABELS)}


def _check(step_counts: dict[str, Any]) -> None:
    pool = step_counts["pool"]
    if pool["unmatched"] < 0 or sum(step_counts["labels"].values()) != pool["matched"]:
        raise ClipshiftError(f"the counts of the join do not add up: {step_counts}")


def _inside(folder: Path, name: str) -> Path:
    """The folder of a subset; lists what there is where it is not."""
    if not folder.is_dir():
        raise ClipshiftError(f"{folder} is no folder; download the data set there first")
    path = folder / name
    if not path.exists() or not path.resolve().is_relative_to(folder.resolve()):
        there = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        raise ClipshiftError(f"{folder} has no subset {name!r}; it holds {there}")
    return path


def subset_of(word: str) -> Subset:
    name, mark, label = word.rpartition("=")
    return Subset(name, label_number(label)) if mark else Subset(label, None)


def label_number(word: str) -> int:
    if (label := label_of(word, None, {})) is None:
        raise ClipshiftError(f"{word!r} is no label; expected {', '.join(LABELS)}")
    return label


def _row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = db.execute(query).fetchall()[0]
    return row
