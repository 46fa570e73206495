"""What every pool and set is made of: decisions counted, and shares corrected for their error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from clipshift.classifiers.folds import TEST
from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import Files, read_parquet, write_json
from clipshift.core.step import step
from clipshift.stats.prevalence import corrected
from clipshift.study.config.classifier_base import DETECTED, DOMAINS
from clipshift.study.config.domains import DECISIONS


def count(files: Sequence[Path]) -> np.ndarray:
    """(4,) int: decisions of a data set, in the order of `DECISIONS`."""
    with database() as db:
        rows = db.execute(
            f"SELECT verdict, count(*) FROM {parquet(files)} GROUP BY verdict"
        ).fetchall()
    counts = dict(rows)
    return np.array([counts.get(v, 0) for v in DECISIONS])


def test_part(parts: Sequence[Path]) -> dict[str, int]:
    """Key -> label of the images that none of the detectors learned from or was tuned on."""
    tables = [read_parquet(file, ["key", "label", "part"]) for file in parts]
    tested = [table.filter(pc.equal(table["part"], TEST)) for table in tables]
    labels = dict(zip(tested[0]["key"].to_pylist(), tested[0]["label"].to_pylist(), strict=True))
    shared = set(labels).intersection(*(table["key"].to_pylist() for table in tested))
    return {key: labels[key] for key in sorted(shared)}


def confusion(parts: Sequence[Path], decisions: Sequence[Path]) -> np.ndarray:
    """(4, 3) int: decision against label, over the labelled test part.

    Args:
        parts: of the detectors' classifiers; decisions: of the data sets that they learned from.

    Raises:
        ClipshiftError: a label has no image in the test part, or a labelled one no decision.
    """
    verdicts: dict[str, str] = {}
    for file in decisions:
        rows = read_parquet(file, ["key", "verdict"])
        verdicts |= dict(zip(rows["key"].to_pylist(), rows["verdict"].to_pylist(), strict=True))
    table = np.zeros((len(DECISIONS), len(DOMAINS)), int)
    for key, label in test_part(parts).items():
        if key not in verdicts:
            raise ClipshiftError(f"the labelled image {key!r} has no decision; score it again")
        # Rows: decisions; columns: labels.
        table[DECISIONS.index(verdicts[key]), label] += 1
    if absent := [d for d in DETECTED if not table[:, DOMAINS.index(d)].any()]:
        raise ClipshiftError(f"the labelled test part has no image that is {absent}; label some")
    return table


def known(file: Path | None) -> dict[str, int]:
    """Labels of a data set, counted."""
    if file is None:
        return {}
    labels = read_parquet(file, ["label"])["label"].to_pylist()
    return {name: labels.count(i) for i, name in enumerate(DOMAINS)} if labels else {}


@step(version=1)
def write_composition(
    datasets: dict[str, Files], learned: dict[str, Path], measured: dict[str, Path],
    parts: list[Path], draws: int, seed: int, out: Path,
) -> None:  # fmt: skip
    """Per data set its size, decisions, corrected shares with intervals, and labels if known.

    Args:
        datasets: name -> files of its decisions.
        learned: labels of the data sets that the detectors learned from.
        measured: labels of the other data sets.
        parts: of the detectors' classifiers.
    """
    matrix = confusion(parts, [file for name in learned for file in datasets[name]])
    # Where nobody labels an image ambiguous, there are two classes, and two shares.
    present = [i for i in range(len(DOMAINS)) if matrix[:, i].any()]
    label_files = {**learned, **measured}
    summaries = {}
    for name, files in datasets.items():
        counts = count(files)
        shares, low, high = corrected(counts, matrix[:, present], draws, seed)
        summaries[name] = {
            "n": int(counts.sum()),
            "verdicts": dict(zip(DECISIONS, counts.tolist(), strict=True)),
            "corrected": {
                d: {"share": s, "low": a, "high": b}
                for d, s, a, b in zip(
                    [DOMAINS[i] for i in present],
                    shares.tolist(),
                    low.tolist(),
                    high.tolist(),
                    strict=True,
                )
            },
            "labelled": known(label_files.get(name)),
        }
    cells = {
        v: dict(zip(DOMAINS, row, strict=True))
        for v, row in zip(DECISIONS, matrix.tolist(), strict=True)
    }
    write_json(out, {"confusion": cells, "draws": draws, "datasets": summaries})
