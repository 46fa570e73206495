"""What every pool and set is made of: verdicts counted, and shares corrected for their error.

`python -m clipshift.domains.composition --parts JSON --dataset NAME=VERDICTS... --learned
NAME=LABELS --measured NAME=LABELS --draws N --seed N --out FILE`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.config.domains import DOMAINS, VERDICTS, Parts
from clipshift.database import database
from clipshift.domains.correct import corrected
from clipshift.domains.parts import TEST, read_labelled
from clipshift.errors import ClipshiftError, run
from clipshift.files import named_paths, read_parquet, write_json
from clipshift.recipes import listed


def count(files: Sequence[Path]) -> np.ndarray:
    """(4,) int: verdicts of a data set, in the order of `VERDICTS`."""
    with database() as db:
        rows = db.execute(
            f"SELECT verdict, count(*) FROM read_parquet({listed(files)}) GROUP BY verdict"
        ).fetchall()
    counts = dict(rows)
    return np.array([counts.get(v, 0) for v in VERDICTS])


def confusion(
    learned: Mapping[str, Path], measured: Mapping[str, Path],
    verdicts: Mapping[str, Sequence[Path]], parts: Parts,
) -> np.ndarray:  # fmt: skip
    """(4, 3) int: verdict against label, over the labelled test part.

    Raises:
        ClipshiftError: a label has no picture in the test part, or a labelled one no verdict.
    """
    labelled = read_labelled(list(learned.values()), list(measured.values()), parts).of(TEST)
    given: dict[str, str] = {}
    for name in learned:
        for file in verdicts[name]:
            rows = read_parquet(file, ["key", "verdict"])
            given |= dict(zip(rows["key"].to_pylist(), rows["verdict"].to_pylist(), strict=True))
    table = np.zeros((len(VERDICTS), len(DOMAINS)), int)
    for key, label in zip(labelled.keys, labelled.labels, strict=True):
        if key not in given:
            raise ClipshiftError(f"the labelled picture {key!r} has no verdict; score it again")
        table[VERDICTS.index(given[key]), label] += 1
    if absent := [d for d, n in zip(DOMAINS, table.sum(0), strict=True) if not n]:
        raise ClipshiftError(f"the labelled test part has no picture that is {absent}; label some")
    return table


def known(file: Path | None) -> dict[str, int]:
    """Labels of a data set, counted."""
    if file is None:
        return {}
    labels = read_parquet(file, ["label"])["label"].to_pylist()
    return {name: labels.count(i) for i, name in enumerate(DOMAINS)} if labels else {}


def compose(
    datasets: Mapping[str, Sequence[Path]], learned: Mapping[str, Path],
    measured: Mapping[str, Path], parts: Parts, draws: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Per data set its size, verdicts, corrected shares with intervals, and labels if known."""
    matrix = confusion(learned, measured, datasets, parts)
    every = {**learned, **measured}
    found = {}
    for name, files in datasets.items():
        counts = count(files)
        shares, low, high = corrected(counts, matrix, draws, seed)
        found[name] = {
            "n": int(counts.sum()),
            "verdicts": dict(zip(VERDICTS, counts.tolist(), strict=True)),
            "corrected": {
                d: {"share": s, "low": a, "high": b}
                for d, s, a, b in zip(
                    DOMAINS, shares.tolist(), low.tolist(), high.tolist(), strict=True
                )
            },
            "labelled": known(every.get(name)),
        }
    cells = {
        v: dict(zip(DOMAINS, row, strict=True))
        for v, row in zip(VERDICTS, matrix.tolist(), strict=True)
    }
    return {"confusion": cells, "draws": draws, "datasets": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", required=True, help="JSON of domains.parts")
    parser.add_argument("--dataset", action="append", required=True, metavar="NAME=FILE[,FILE]")
    parser.add_argument("--learned", action="append", required=True, metavar="NAME=LABELS")
    parser.add_argument("--measured", action="append", default=[], metavar="NAME=LABELS")
    parser.add_argument("--draws", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    learned, measured = (
        {name: file for name, (file,) in named_paths(words).items()}
        for words in (args.learned, args.measured)
    )
    parts = Parts.model_validate_json(args.parts)
    datasets = named_paths(args.dataset)
    write_json(args.out, compose(datasets, learned, measured, parts, args.draws, args.seed))


if __name__ == "__main__":
    run(main)
