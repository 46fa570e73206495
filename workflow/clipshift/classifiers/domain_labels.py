"""Labels of a data set's images: natural 0, rendition 1, ambiguous 2.

The table holds `key, label, concept, source, annotator`, in the order of keys. Labels come from a
table over the sources, from people, or both; people win.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import Files, read_parquet, write_json, write_parquet
from clipshift.core.step import step
from clipshift.datasets.identity import AGREE, join, urls_of
from clipshift.datasets.select import class_of
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.study.config.classifier_base import DOMAINS
from clipshift.study.config.domains import Labels

# The contract of label tables, ours and the labelling page's.
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.int8()),  # place in DOMAINS
        ("concept", pa.string()),  # may be null: the image is its own concept
        ("source", pa.string()),
        ("annotator", pa.string()),
    ]
)
AMBIGUOUS = DOMAINS.index("ambiguous")
BY_TABLE = "table of sources"
# What labels need of a sample.
COLUMNS = ["key", "source", "family", "concept", "category", "domain"]
Row = dict[str, Any]
People = dict[str, tuple[int, str | None, str]]


def by_table(row: Row, spec: Labels) -> int | None:
    """The label of a sample by its category path, else by the domain of its source.

    Raises:
        ClipshiftError: the domain is in no row of the table.
    """
    named: str | None = class_of(row["category"] or "", dict(spec.paths.items()))
    if named is None:
        if not spec.table:
            return None
        named = spec.table.get(row["domain"])
    if named is None:
        raise ClipshiftError(
            f"domains.labels.table: no label for the domain {row['domain']!r} of the source "
            f"{row['source']!r} (sample {row['key']!r}); add a row"
        )
    return DOMAINS.index(named)


def by_people(table: pa.Table, where: Path) -> dict[str, tuple[int, str | None, str]]:
    """Per key the majority's label, a concept if one is given, and who labelled.

    Raises:
        ClipshiftError: a label that is none of 0, 1, 2, or a person labels a key twice.
    """
    votes: dict[str, dict[str, int]] = defaultdict(dict)
    concepts: dict[str, str | None] = {}
    for row in table.to_pylist():
        key, label, who = row["key"], row["label"], row["annotator"] or "unknown"
        if label not in range(len(DOMAINS)):
            raise ClipshiftError(f"{where}: the label {label!r} of {key!r} is none of 0, 1, 2")
        if votes[key].setdefault(who, label) != label:
            raise ClipshiftError(
                f"{where}: {who} labels {key!r} both {label} and another; keep one"
            )
        concepts[key] = row["concept"] or concepts.get(key)
    return {
        key: (majority(votes_of_key.values()), concepts[key], ", ".join(sorted(votes_of_key)))
        for key, votes_of_key in votes.items()
    }


def majority(labels: Iterable[int]) -> int:
    """The label that most annotators gave; ambiguous where none has more than the next.

    >>> majority([0, 0, 1]), majority([0, 1])
    (0, 2)
    """
    ranked = Counter(labels).most_common(2)
    tied = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
    return AMBIGUOUS if tied else ranked[0][0]


def label(
    rows: Iterable[Row], spec: Labels, people: Mapping[str, tuple[int, str | None, str]]
) -> pa.Table:
    """The label table of some samples, in the order of keys; samples without a label are absent."""
    labelled = []
    for row in rows:
        concept = f"{row['family']}/{row['concept']}" if row["concept"] else None
        if row["key"] in people:
            value, labelled_concept, who = people[row["key"]]
            concept = labelled_concept or concept
        else:
            table_label = by_table(row, spec)
            if table_label is None:
                continue
            value, who = table_label, BY_TABLE
        labelled.append(
            {
                "key": row["key"],
                "label": value,
                "concept": concept,
                "source": row["source"],
                "annotator": who,
            }
        )
    labelled.sort(key=lambda row: str(row["key"]))
    return pa.Table.from_pylist(labelled, schema=SCHEMA)


def read_labels(
    tables: Sequence[Path], spec: Labels, agree: float = AGREE, split: Path | None = None
) -> tuple[pa.Table, int, dict[str, Any]]:
    """The label table of some sample tables (see `label`), how many samples they hold, and how
    people's labels were joined to them.

    Args:
        split: of whose points alone there are to be labels.

    Raises:
        ClipshiftError: people's labels are missing, or of other samples (see `identity.check`).
    """
    people = {}
    joined: dict[str, Any] = {}
    samples = pa.concat_tables(
        read_parquet(table, [*COLUMNS, "sha256", "caption", "locator"]) for table in tables
    )
    if split is not None:
        kept = read_parquet(split, ["key", "kept"])
        kept = kept.filter(kept["kept"])
        samples = samples.filter(pa.compute.is_in(samples["key"], value_set=kept["key"]))
    if spec.file is not None:
        file = located(spec.file, data_folder())
        if not file.exists():
            raise ClipshiftError(
                f"{file} (people's labels, of `domains`) is missing: label images with `clipshift "
                "label`, or write a parquet with the columns key, label, concept, source, annotator"
            )
        table = read_parquet(file)
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise ClipshiftError(f"{file} lacks the columns {missing}; it has {table.column_names}")
        people = by_people(table, file)
        joined, people = _joined(samples, table, people, file, agree)
    return label(samples.select(COLUMNS).to_pylist(), spec, people), len(samples), joined


def _joined(
    samples: pa.Table, table: pa.Table, people: People, file: Path, agree: float
) -> tuple[dict[str, Any], People]:
    """Counts of the join of labels to samples, and the labels that are of a sample.

    The table has a row for each person; a key's first one is asked for URL, caption and hash.
    """
    first = {key: row for row, key in reversed(list(enumerate(table["key"].to_pylist())))}
    theirs = table.take(pa.array(sorted(first.values()), pa.int64()))
    mine = samples.select(["key", "sha256", "caption"]).append_column("url", urls_of(samples))
    found = join(mine, theirs, "key", str(file), agree)
    of_samples = {k for k, p in zip(mine["key"].to_pylist(), found.partner, strict=True) if p >= 0}
    return found.counts, {key: value for key, value in people.items() if key in of_samples}


@step(version=2)
def write_labels(
    tables: Files, labels: Labels, table: Path, counts: Path, agree: float = AGREE,
    split: Path | None = None,
) -> None:  # fmt: skip
    """Write the labels of a data set and their counts.

    Args:
        tables: of its samples.
        agree: see `clipshift.datasets.identity.check`.
        split: of whose points alone there are to be labels.
    """
    labelled, samples, joined = read_labels(tables, labels, agree, split)
    step_counts = StepCounts("labels", table.stem, came_in=samples, went_out=len(labelled))
    step_counts.rejected["no label"] = samples - len(labelled)
    step_counts.rejected += Counter()
    by_domain = Counter(DOMAINS[v] for v in labelled["label"].to_pylist())
    write_parquet(table, labelled)
    write_json(
        counts, {"account": step_counts.as_json(), "labels": dict(by_domain), "joined": joined}
    )
