"""In which fields of their captions the true class of images is named.

Per field, of the images with a true label, the share whose field has text, and the share whose
field names the class; with n and the Clopper-Pearson interval. The last rows say how the configured
pseudo-label of such an image agrees with its true one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clipshift.core.database import Paths
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import Files, write_csv
from clipshift.core.step import step
from clipshift.datasets.captions.corpora import joined, true_label
from clipshift.datasets.captions.matcher import finder, label_of, text_of
from clipshift.datasets.captions.schema import classes_of
from clipshift.stats.intervals import clopper_pearson
from clipshift.study.config.captions import CAPTION_FIELDS, Matcher

ANY = "any"


def statistics(
    matcher: Matcher, classes: Sequence[str], tables: Paths, fields: Paths
) -> list[dict[str, Any]]:
    """Rows of the table; see the module.

    Raises:
        ClipshiftError: no image has a true label.
    """
    find = finder(matcher, classes).find
    index: dict[str, list[int]] = {}
    for number, name in enumerate(classes):
        index.setdefault(name, []).append(number)
    counts: Counter[tuple[str, str]] = Counter()
    labelled = 0
    for row in _rows(tables, fields):
        truth, _ = true_label(row, index)
        if not truth:
            continue
        labelled += 1
        named_anywhere = False
        for field in CAPTION_FIELDS:
            named = bool(set(truth) & set(find(row[field])))
            counts[field, "text"] += bool(row[field].strip())
            counts[field, "named"] += named
            named_anywhere |= named
        counts[ANY, "text"] += any(row[field].strip() for field in CAPTION_FIELDS)
        counts[ANY, "named"] += named_anywhere
        label, why = label_of(find(text_of(row, matcher.fields, "\n")), matcher.multi)
        counts["pseudo-label", why or ("right" if label == truth else "wrong")] += 1
    if not labelled:
        raise ClipshiftError("no image has a true label, so no caption can be compared with one")
    outcomes = sorted(what for field, what in counts if field == "pseudo-label")
    kinds = [(f, w) for f in (*CAPTION_FIELDS, ANY) for w in ("text", "named")]
    kinds += [("pseudo-label", what) for what in outcomes]
    return [_row(field, what, counts[field, what], labelled) for field, what in kinds]


def _row(field: str, what: str, count: int, n: int) -> dict[str, Any]:
    low, high = clopper_pearson(count, n)
    share = {"share": count / n, "share_low": low, "share_high": high}
    return {"field": field, "what": what, "n": n, "count": count} | share


def _rows(tables: Paths, fields: Paths) -> Iterator[dict[str, Any]]:
    for table in tables:
        for batch in joined(table, fields):
            yield from batch


@step(version=1)
def table(
    found: Matcher, tables: Files, fields: Files, classes: list[str] | Path, out: Path
) -> None:
    """The table, see above.

    Args:
        found: the matcher `causes.found`.
        tables: sample tables.
        fields: fields of their captions.
        classes: see `classes_of`.
    """
    rows = statistics(found, classes_of(classes), tables, fields)
    write_csv(out, rows)
