"""Reading the labels of a set, after checking that its files agree with each other."""

import re
from collections.abc import Sequence
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets.tar_paths import read_tars


def check_labels(folder: Path, tars: Path | Sequence[Path]) -> tuple[list[str], dict[str, int]]:
    """Class names and labels of a set, after checking that tars, table and class list agree.

    Returns:
        class names in index order, and {key: class index}.

    Raises:
        ClipshiftError: a label outside the class list, or labels that differ from the table's.
    """
    names = (folder / "classnames.txt").read_text().splitlines()
    table = read_parquet(folder / "samples.parquet", ["key", "class_name"]).to_pylist()
    expected = {row["key"]: row["class_name"] for row in table}
    labels: dict[str, int] = {}
    tar = tars if isinstance(tars, Path) else tars[0]
    for sample in read_tars(tars):
        if sample.key not in expected and not sample.has_image:
            continue  # counted where the table was made
        text = sample.parts.get("cls", b"none").decode(errors="replace").strip()
        label = int(text) if re.fullmatch("[0-9]{1,9}", text) else len(names)
        if label >= len(names):
            raise ClipshiftError(
                f"{tar}: sample {sample.key!r} has the label {text[:40]}, but "
                f"{folder}/classnames.txt lists {len(names)} classes"
            )
        if expected.get(sample.key) != names[label]:
            raise ClipshiftError(
                f"{tar}: sample {sample.key!r} is {names[label]!r} by classnames.txt and "
                f"{expected.get(sample.key)!r} by samples.parquet: the class lists do not match; "
                "delete the set's folder and run again"
            )
        labels[sample.key] = label
    if len(labels) != len(expected):
        raise ClipshiftError(f"{tar} holds {len(labels)} samples, its table {len(expected)}")
    return names, labels
