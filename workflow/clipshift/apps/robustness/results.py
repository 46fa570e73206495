"""A user's own results, in the formats of the field, as a table of typed accuracies.

CLIP_benchmark's JSON (one data set a file) and the csv that it builds of them, open_clip's results
csv and `results.jsonl`, DataComp's `eval_results.jsonl`, and our evaluation JSON. Names of data
sets are matched without case, `wds/`, and punctuation. What is none of ImageNet's sets, no top-1
accuracy, or broken is counted by reason.
"""

import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.evaluation.robustness.points import Axis
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, VAL_A, VAL_OBJECTNET, VAL_R
from clipshift.evaluation.robustness.sources import BROKEN, BROKEN_BELOW, Measured, Table, size_of

OTHER_SET = "not one of ImageNet's sets"
NO_TOP1 = "no top-1 accuracy of zero-shot or linear classification"
OWN = "Models of a study of your own are compared among themselves: `figures.effective_robustness`"
REPEATED = "the same accuracy again"
# Tasks of CLIP_benchmark, and the key of their accuracy.
TASKS = {"zeroshot_classification": "acc1", "linear_probe": "lp_acc1"}
OPEN_CLIP_TOP1 = re.compile(r"^(.*)-zeroshot-val-top1$")


def plain(name: str) -> str:
    """A data set's name without what tools add to it.

    >>> plain("wds/imagenet_sketch"), plain("ImageNet 1k")
    ('imagenetsketch', 'imagenet1k')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower().rsplit("/", 1)[-1])


NAMES = {
    # Not "val": that may be anybody's.
    VAL: ("imagenet1k", "imagenet", "imagenet1kunverified", "imagenetval", "imagenet1kval"),
    VAL_R: ("valonimagenetrclasses",),
    VAL_A: ("valonimagenetaclasses",),
    VAL_OBJECTNET: ("valonobjectnetclasses",),
    SHIFTS["v2"].axis: (
        "imagenetv2",
        "imagenetv2matchedfrequency",
        "imagenetv2matchedfrequencyformatval",
    ),
    SHIFTS["sketch"].axis: ("imagenetsketch",),
    SHIFTS["r"].axis: ("imagenetr",),
    SHIFTS["a"].axis: ("imageneta",),
    SHIFTS["objectnet"].axis: ("objectnet", "objectnet10beta"),
}
AXES = {name: axis for axis, names in NAMES.items() for name in names}
CLASSES = {VAL: 1000, VAL_R: 200, VAL_A: 200, VAL_OBJECTNET: 113} | {
    shift.axis: shift.classes for shift in SHIFTS.values()
}


class Result(NamedTuple):
    """One accuracy of one model as a file states it; `n` and `classes` where it says so."""

    model: str
    dataset: str
    value: float | None
    n: int | None = None
    classes: int | None = None


def read(files: list[Path]) -> Table:
    """All results of some files, or of the files in some folders.

    Raises:
        ClipshiftError: a file that is none of the formats; an accuracy that is no fraction; a set
            with another number of classes than ImageNet's; two different accuracies of one model.
    """
    table = Table("your models", step_counts=StepCounts("read", "results"))
    origin: dict[tuple[str, Axis], Path] = {}
    for file in _spread(files):
        for result in _results(file):
            table.step_counts.came_in += 1
            _take(table, origin, result, file)
    # After all files: a model's ImageNet accuracy may come in another one than its shifts.
    broken = [m for m, v in table.values.items() if VAL in v and v[VAL].value < BROKEN_BELOW]
    for model in broken:
        table.step_counts.rejected[BROKEN] += len(table.values.pop(model))
    table.step_counts.went_out = sum(map(len, table.values.values()))
    table.step_counts.check()
    if not table.values:
        raise ClipshiftError(
            f"{', '.join(map(str, files))}: no model with an accuracy on ImageNet or a shifted set "
            f"of it; {table.step_counts.came_in} results, "
            f"rejected: {dict(table.step_counts.rejected)}. " + OWN
        )
    return table


def _take(table: Table, origin: dict[tuple[str, Axis], Path], result: Result, file: Path) -> None:
    axis = AXES.get(plain(result.dataset))
    if axis is None or result.value is None or math.isnan(result.value):
        table.step_counts.rejected[OTHER_SET if axis is None else NO_TOP1] += 1
        return
    if not 0 <= result.value <= 1:
        raise ClipshiftError(
            f"{file}: {result.model!r} has {result.value} on {result.dataset!r}; accuracies are "
            "fractions between 0 and 1"
        )
    if result.classes is not None and result.classes != CLASSES[axis]:
        raise ClipshiftError(
            f"{file}: {result.dataset!r} of {result.model!r} has {result.classes} classes, "
            f"{axis.name} has {CLASSES[axis]}: it is no set of ImageNet's. " + OWN
        )
    accuracies = table.values.setdefault(result.model, {})
    table.types[result.model] = "yours"
    measured = Measured(result.value, result.n or size_of(axis))
    if axis not in accuracies:
        accuracies[axis] = measured
        origin[result.model, axis] = file
    elif accuracies[axis].value == measured.value:
        table.step_counts.rejected[REPEATED] += 1
    else:
        raise ClipshiftError(
            f"{file}: {result.model!r} has {measured.value} on {axis.name}, but "
            f"{accuracies[axis].value} in {origin[result.model, axis]}; give one of them, or name "
            "the models apart"
        )


def _spread(files: list[Path]) -> list[Path]:
    """The files themselves, and those of folders, in order and each once."""
    sources: list[Path] = []
    for file in files:
        if not file.exists():
            raise ClipshiftError(f"{file} is not there; give files of results, or their folder")
        inside = [f for ext in ("*.json", "*.jsonl", "*.csv") for f in file.glob(ext)]
        sources += sorted(inside) if file.is_dir() else [file]
    if not sources:
        raise ClipshiftError(f"{', '.join(map(str, files))}: no .json, .jsonl or .csv there")
    return list(dict.fromkeys(sources))


def _results(file: Path) -> Iterator[Result]:
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".csv":
            yield from _csv(file, text)
            return
        lines = text.splitlines() if file.suffix == ".jsonl" else [text]
        entries = [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise ClipshiftError(f"{file} is neither JSON nor csv: {error}") from None
    for entry in entries:
        for one in entry if isinstance(entry, list) else [entry]:
            yield from _entry(file, one)


def _entry(file: Path, entry: Any) -> Iterator[Result]:
    """Results of one JSON object, by the keys that its format has."""
    if isinstance(entry, dict) and isinstance(entry.get("sets"), dict):  # ours
        model = str(entry.get("run") or entry.get("split") or file.stem)
        for name, one in entry["sets"].items():
            yield Result(model, name, one["top1"], one["n"], len(one["classes"]))
    elif isinstance(entry, dict) and isinstance(entry.get("metrics"), dict):
        # CLIP_benchmark's; DataComp's lines have neither model nor task.
        task = entry.get("task", "zeroshot_classification")
        value = entry["metrics"].get(TASKS.get(task, ""))
        names = entry.get("classnames")
        yield Result(
            _model(entry, file, task),
            str(entry.get("dataset", "")),
            _number(value, file),
            classes=len(names) if names else None,
        )
    elif isinstance(entry, dict) and any(map(OPEN_CLIP_TOP1.match, entry)):  # open_clip's jsonl
        name, epoch = entry.get("name") or file.parent.name, entry.get("epoch")
        for key, value in entry.items():
            if match := OPEN_CLIP_TOP1.match(key):
                model = name if epoch is None else f"{name} epoch {epoch}"
                yield Result(model, match[1], _number(value, file))
    else:
        raise ClipshiftError(
            f"{file} is no result of CLIP_benchmark (`dataset`, `metrics`), open_clip, DataComp or "
            "clipshift (`sets`)"
        )


def _model(entry: dict[str, Any], file: Path, task: str) -> str:
    """`MODEL PRETRAINED`, with what else tells its results apart."""
    if "model" not in entry:
        return file.parent.name or file.stem
    pretrained = Path(str(entry.get("pretrained") or "")).name
    language = entry.get("language") or "en"
    more = ["linear probe"] * (task == "linear_probe") + [language] * (language != "en")
    return " ".join([str(entry["model"]), *([pretrained] if pretrained else []), *more])


def _csv(file: Path, text: str) -> Iterator[Result]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0]) if rows else []
    if {"dataset", "model"} <= set(columns):  # what `clip_benchmark build` writes
        for row in rows:
            task = row.get("task") or "zeroshot_classification"
            value = _number(row.get(TASKS.get(task, "")) or None, file)
            yield Result(_model(dict(row), file, task), row["dataset"], value)
    elif "name" in columns and any(plain(c) in AXES for c in columns):  # open_clip's results
        for row in rows:
            model = " ".join(filter(None, (row["name"], row.get("pretrained"))))
            for column in columns:
                if plain(column) in AXES:
                    yield Result(model, column, _number(row[column] or None, file))
    else:
        raise ClipshiftError(
            f"{file}: a csv of results has the columns `dataset` and `model` (CLIP_benchmark), or "
            f"`name` and `ImageNet 1k` and so on (open_clip); this one has {columns[:8]}"
        )


def _number(value: Any, file: Path) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise ClipshiftError(f"{file}: {value!r} is no accuracy") from None
