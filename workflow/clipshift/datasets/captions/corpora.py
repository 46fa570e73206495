"""Caption and label of each image of a shard, as a corpus asks for them, or why it has none.

A corpus has `key, caption, labels, reason` in the order of the sample table's keys: `labels` are
indices of the study's classes (several where the matcher keeps all), `reason` is null for an image
that can be used. Its counts are beside it. No split is read: a corpus serves all of them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.counts import StepCounts
from clipshift.core.database import Paths, database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, write_json
from clipshift.core.step import step
from clipshift.datasets.captions.language import Judge, banned, judge
from clipshift.datasets.captions.matcher import ClassNames, finder, label_of, text_of
from clipshift.datasets.captions.schema import classes_of
from clipshift.datasets.prompts import templates
from clipshift.datasets.select import seeded_order
from clipshift.study.config.captions import CAPTION_FIELDS, OPENAI_IMAGENET, Corpus, Matcher

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("labels", pa.list_(pa.int32())),
        ("reason", pa.string()),
    ]
)
ROWS = 65_536
Row = dict[str, Any]


def joined(table: Path, fields: Paths) -> Iterator[list[Row]]:
    """Rows of a sample table with their fields (empty where there are none), by key, in batches."""
    texts = ", ".join(f"coalesce(f.{name}, '') AS {name}" for name in CAPTION_FIELDS)
    source = f"FROM {parquet([table])} t"
    if fields:
        source += f" LEFT JOIN {parquet(fields)} f USING (key)"
    else:
        texts = ", ".join(f"'' AS {name}" for name in CAPTION_FIELDS) + ", NULL AS label"
    label = ", f.label" if fields else ""
    with database() as db:
        db.execute(f"SELECT t.key, t.class_name, {texts}{label} {source} ORDER BY t.key")
        names = [column[0] for column in db.description or []]
        while batch := db.fetchmany(ROWS):
            yield [dict(zip(names, values, strict=True)) for values in batch]


class Reader:
    """Applies a corpus to rows.

    Args:
        classes: the study's, in the order of their indices; a name may be there twice (ImageNet has
            two such pairs), and the data must then hold the label themselves.
        matcher: finds the labels, where the corpus does not take those of the table.
    """

    def __init__(self, corpus: Corpus, classes: Sequence[str], matcher: Matcher | None = None):
        self._corpus, self._classes, self._matcher = corpus, classes, matcher
        self._index: dict[str, list[int]] = {}
        for index, name in enumerate(classes):
            self._index.setdefault(name, []).append(index)
        self._templates = caption_templates(corpus)
        self._finder: ClassNames | None = finder(matcher, classes) if matcher else None
        self._english: Judge | None = judge(corpus.language) if corpus.language else None
        self._banned: re.Pattern[str] | None = (
            banned(Path(corpus.banned)) if corpus.banned else None
        )

    def read(self, row: Row) -> Row:
        """The corpus's row of an image."""
        corpus = self._corpus
        labels, reason = self._labels(row)
        caption = None
        if self._templates and labels:
            named = " and ".join(self._classes[i] for i in labels)
            drawn = seeded_order(0, row["key"]) % len(self._templates)
            caption = self._templates[drawn].replace("{class}", named)
        elif corpus.fields:
            caption = text_of(row, corpus.fields, corpus.separator) or None
            if caption is None:
                reason = reason or "no caption"
            elif self._english and not self._english(caption):
                reason = reason or "caption not English"
        if corpus.texts and not text_of(row, corpus.texts):
            reason = reason or "no text"
        if self._banned and self._banned.search(text_of(row, CAPTION_FIELDS, "\n")):
            reason = "banned word"
        return {"key": row["key"], "caption": caption, "labels": labels, "reason": reason}

    def _labels(self, row: Row) -> tuple[list[int], str | None]:
        if self._corpus.labels is None:
            return [], None
        if self._matcher and self._finder:
            text = text_of(row, self._matcher.fields, "\n")
            return label_of(self._finder.find(text), self._matcher.multi)
        return true_label(row, self._index)


def caption_templates(corpus: Corpus) -> list[str]:
    """The templates of a corpus with `{class}`; none where captions are the data's own."""
    if corpus.template == OPENAI_IMAGENET:
        return [text.replace("{c}", "{class}") for text in templates([OPENAI_IMAGENET])]
    return [corpus.template] if isinstance(corpus.template, str) else corpus.template or []


def true_label(row: Row, index: dict[str, list[int]]) -> tuple[list[int], str | None]:
    """The label that the data hold: their own index, else the class by its name."""
    if row["label"] is not None:
        return [int(row["label"])], None
    name = row["class_name"]
    if name is None or name not in index:
        return [], "no class of the study"
    if len(index[name]) > 1:
        raise ClipshiftError(
            f"sample {row['key']!r}: {name!r} is the name of the classes {index[name]}; its label "
            "must come with the data (a `label` among its fields)"
        )
    return index[name], None


@step(version=1)
def corpus(
    corpus: Corpus, classes: list[str] | Path, table: Path, fields: list[Path], out: Path,
    matcher: Matcher | None = None,
) -> None:  # fmt: skip
    """Write the corpus of one shard and its counts.

    Args:
        classes, matcher: see `Reader`.
        table: the shard's sample table.
        fields: captions of its samples, of sources or of the shard; none where none are asked for.
    """
    reader = Reader(corpus, classes_of(classes), matcher)
    step_counts = StepCounts("corpus", out.stem)
    reasons: Counter[str] = Counter()
    with atomic(out) as stream, pq.ParquetWriter(stream, SCHEMA, compression="zstd") as writer:
        for batch in joined(table, fields):
            rows = [reader.read(row) for row in batch]
            step_counts.came_in += len(rows)
            reasons.update(row["reason"] for row in rows if row["reason"])
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    step_counts.rejected = reasons
    step_counts.went_out = step_counts.came_in - sum(reasons.values())
    write_json(out.with_suffix(".json"), step_counts.as_json())
