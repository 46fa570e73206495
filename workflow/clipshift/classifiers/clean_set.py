"""Clean one test set: keep the images that the detector of its own domain accepts.

The table holds `key, class_name, kept, reason` in the order of keys; the json beside it the counts,
the classes that are left, in the order of the set's class list, and those that are gone.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_json, write_parquet
from clipshift.core.step import step
from clipshift.study.config.domains import Clean

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("class_name", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
    ]
)
KEPT = "kept"


def clean(spec: Clean, classes: dict[str, str], decisions: dict[str, str]) -> list[dict[str, Any]]:
    """One row per image of the set, in the order of keys.

    Args:
        classes: key -> class name, of every image of the set.
        decisions: key -> decision, of every image that could be scored.
    """
    reasons = {}
    for key, name in classes.items():
        decision = decisions.get(key)
        if decision is None:
            reasons[key] = "not scored"
        elif spec.classes is not None and name not in spec.classes:
            reasons[key] = "class is not asked for"
        else:
            reasons[key] = KEPT if decision == spec.domain else f"decision: {decision}"
    # After the detector: a class counts what is left of it.
    counts = Counter(classes[key] for key, why in reasons.items() if why == KEPT)
    for key, why in reasons.items():
        if why == KEPT and counts[classes[key]] < spec.minimum_per_class:
            reasons[key] = f"class has fewer than {spec.minimum_per_class} left"
    return [
        {"key": k, "class_name": classes[k], "kept": reasons[k] == KEPT, "reason": reasons[k]}
        for k in sorted(classes)
    ]


@step(version=1)
def write_clean(
    spec: Clean, samples: Path, classnames: Path, decisions: Path, table: Path, counts: Path
) -> None:
    """Write the list of a clean set and its counts.

    Raises:
        ClipshiftError: nothing is left, or a decision is on an image that the set does not hold.
    """
    images = read_parquet(samples, ["key", "class_name"])
    classes = dict(zip(images["key"].to_pylist(), images["class_name"].to_pylist(), strict=True))
    judged = read_parquet(decisions, ["key", "verdict"])
    verdicts = dict(zip(judged["key"].to_pylist(), judged["verdict"].to_pylist(), strict=True))
    if odd := sorted(verdicts.keys() - classes.keys()):
        raise ClipshiftError(
            f"{decisions}: {odd[0]!r} is no image of {samples.parent}; score it again"
        )
    rows = clean(spec, classes, verdicts)
    step_counts = StepCounts("clean set", table.stem, came_in=len(rows))
    step_counts.went_out = sum(row["kept"] for row in rows)
    step_counts.rejected = Counter(row["reason"] for row in rows if not row["kept"])
    if not step_counts.went_out:
        raise ClipshiftError(
            f"the clean set {table.stem} keeps nothing of {len(rows)} images "
            f"({dict(step_counts.rejected)}): look at the operating point of the "
            f"{spec.domain} detector"
        )
    names = classnames.read_text().splitlines()
    left = Counter(row["class_name"] for row in rows if row["kept"])
    before = Counter(classes.values())
    gone = [name for name in dict.fromkeys(names) if before[name] and not left[name]]
    write_parquet(table, pa.Table.from_pylist(rows, schema=SCHEMA))
    entry = {
        "account": step_counts.as_json(),
        "set": spec.set,
        "domain": spec.domain,
        "classes": {name: left[name] for name in dict.fromkeys(names) if left[name]},
        "classes_before": sum(1 for name in before if before[name]),
        "classes_gone": {name: before[name] for name in gone},
    }
    write_json(counts, entry)
