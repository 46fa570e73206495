"""Cases of the kinds of figures: each draws one from small files, and checks its table."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from clipshift.study.config.figures import KINDS
from clipshift.study.layout.figures import Study
from tests.unit.logits_case import said

CASES: dict[str, Callable[[Path], None]] = {}
PUBLISHED = Path(import_module("clipshift").__file__ or "").parent / "data"
REFERENCE = "photos"
Row = dict[str, Any]


def case(kind: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Register the case of a kind."""

    def register(function: Callable[[Path], None]) -> Callable[[Path], None]:
        assert kind not in CASES
        CASES[kind] = function
        return function

    return register


def drawn(
    kind: str, folder: Path, files: Row, block: Row, study: Row | None = None
) -> list[dict[str, str]]:
    """Run the step of a kind; the rows of its table."""
    spec = KINDS.blocks[kind]
    module = import_module(f"clipshift.figures.kinds.{kind}")
    table = folder / "table.csv"
    given = (spec.model_validate(block), files, Study(reference=REFERENCE, **(study or {})))
    if spec.drawn:
        more = {end: folder / f"{end}.csv" for end in spec.more}
        module.figure(*given, table=table, out=[folder / "image.svg"], **more)
        check_image(folder / "image.svg", spec.caption)
    else:
        module.table(*given, out=table)
    return rows(table)


def check_image(file: Path, caption: str) -> None:
    """Its text is text, and it says what it is."""
    root = ElementTree.parse(file).getroot()
    assert root.findtext("{http://www.w3.org/2000/svg}title") == "image"
    assert caption in [e.text for e in root.iter("{http://purl.org/dc/elements/1.1/}description")]
    assert any(e.text for e in root.iter("{http://www.w3.org/2000/svg}text"))


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def same(found: Sequence[Mapping[str, str]], expected: Sequence[Row]) -> None:
    """Rows of a table are as expected; a number may be given as `pytest.approx`, None is empty."""
    assert len(found) == len(expected)
    for mine, row in zip(found, expected, strict=True):
        assert set(mine) == set(row)
        for column, value in row.items():
            text = mine[column]
            if value is None or isinstance(value, str):
                assert text == (value or ""), (column, row)
            else:
                near = value if hasattr(value, "expected") else pytest.approx(value, abs=1e-6)
                assert float(text) == near, (column, row)


def around(low: float, high: float, within: float) -> tuple[Any, Any]:
    """The ends of an interval that is drawn at random."""
    return pytest.approx(low, abs=within), pytest.approx(high, abs=within)


def exact(correct: int, n: int) -> tuple[float, float]:
    """The exact binomial interval, by SciPy's test."""
    found = binomtest(correct, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def write(path: Path, **columns: Any) -> str:
    """A table of columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def shards(folder: Path, *parts: Mapping[str, Any]) -> Row:
    """Tables of numbered shards, as a pattern."""
    for i, part in enumerate(parts):
        write(folder / f"{i:05d}.parquet", **part)
    return {"pattern": f"{folder}/{{shard}}.parquet", "shards": len(parts)}


def write_json(path: Path, value: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


def published(name: str) -> Any:
    return json.loads((PUBLISHED / f"published_{name}.json").read_text())


def nearest(path: Path, similar: Mapping[str, Sequence[tuple[str, float]]]) -> str:
    """Neighbours of test images, the nearest first: key and similarity."""
    found = [
        {"test_key": test, "rank": rank, "key": key, "similarity": similarity}
        for test, near in similar.items()
        for rank, (key, similarity) in enumerate(near)
    ]
    columns = ("test_key", "rank", "key", "similarity")
    types = (pa.string(), pa.int16(), pa.string(), pa.float64())
    values = {c: pa.array([r[c] for r in found], t) for c, t in zip(columns, types, strict=True)}
    return write(path, **values)


def answers(folder: Path, run: str, correct: str, labels: str = "", **record: Any) -> str:
    """What a run said of images k0000, k0001, ...: `1` is correct.

    Args:
        labels: the class of each image, a digit; by default 0 and 1 in turns.
    """
    right = np.array([c == "1" for c in correct])
    label = np.array([int(c) for c in labels or ("01" * len(correct))[: len(correct)]])
    scores = np.eye(int(label.max()) + 1)[np.where(right, label, (label + 1) % (label.max() + 1))]
    path = folder / f"{run}.parquet"
    return str(said(path, scores.astype(np.float32), label, seed=int(run[-1]), **record))


def step_counts(folder: Path, split: str, candidates: int, kept: int, out: int) -> str:
    value = {"candidates": candidates, "points_kept": kept, "out": out}
    return write_json(folder / f"splits/{split}.json", value)


def image_set(folder: Path, name: str, keys: Sequence[str]) -> Row:
    """A sample table and a tar with an image of each key."""
    import io
    import tarfile

    from PIL import Image

    pixels = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(pixels, "JPEG")
    captions = [f"an image of {key}" for key in keys]
    table = write(folder / f"{name}.parquet", key=list(keys), caption=captions)
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for key, caption in zip(keys, captions, strict=True):
            for end, data in (("jpg", pixels.getvalue()), ("txt", caption.encode())):
                entry = tarfile.TarInfo(f"{key}.{end}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return {"tables": [table], "tars": [str(folder / f"{name}.tar")]}
