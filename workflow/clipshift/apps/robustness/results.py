"""A user's own results, in the formats of the field, as a table of typed accuracies.

CLIP_benchmark's JSON (one data set a file) and the csv that it builds of them, open_clip's results
csv and `results.jsonl`, DataComp's `eval_results.jsonl`, and our evaluation JSON. Names of data
sets are matched without case, `wds/`, and punctuation. What is none of ImageNet's sets, no top-1
accuracy, or broken is counted by reason.
"""

import codecs
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clipshift.apps.robustness.names import Model, run_of, shortest, weights_of
from clipshift.core.counts import StepCounts
from clipshift.core.csv_file import open_csv
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import parse_json
from clipshift.core.sniff import explain, regular_file
from clipshift.evaluation.robustness.points import Axis
from clipshift.evaluation.robustness.shifts import SHIFTS, VAL, VAL_A, VAL_OBJECTNET, VAL_R
from clipshift.evaluation.robustness.sources import BROKEN, BROKEN_BELOW, Measured, Table, size_of
from clipshift.study.config.numbers import POINTS

OTHER_SET = "not one of ImageNet's sets"
NO_TOP1 = "no top-1 accuracy of zero-shot or linear classification"
OWN = "Models of a study of your own are compared among themselves: `figures.effective_robustness`"
REPEATED = "the same accuracy again"
# Tasks of CLIP_benchmark, and the key of their accuracy.
TASKS = {"zeroshot_classification": "acc1", "linear_probe": "lp_acc1"}
SUFFIXES = (".json", ".jsonl", ".csv")
# Larger files are no results.
MOST_BYTES = 256 << 20
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
    """One accuracy of one model as a file states it; `n` and `classes` where it says so.

    `where` names file, line and key.
    """

    model: Model
    dataset: str
    value: Any
    where: str
    n: int | None = None
    classes: int | None = None


def read(files: list[Path]) -> Table:
    """All results of some files, or of the files in some folders.

    A model is told from another one of the same name by where its weights or results lie.

    Raises:
        ClipshiftError: a file that is none of the formats; an accuracy that is no fraction; a set
            with another number of classes than ImageNet's; two different accuracies of one model.
    """
    step_counts = StepCounts("read", "results")
    found: dict[Model, dict[Axis, tuple[Measured, str]]] = {}
    for file in _spread(files):
        for result in _results(file):
            step_counts.came_in += 1
            _take(found, step_counts, result)
    # After all files: a model's ImageNet accuracy may come in another one than its shifts.
    broken = [m for m, v in found.items() if VAL in v and v[VAL][0].value < BROKEN_BELOW]
    for model in broken:
        step_counts.rejected[BROKEN] += len(found.pop(model))
    step_counts.went_out = sum(map(len, found.values()))
    step_counts.check()
    if not found:
        raise ClipshiftError(
            f"{', '.join(map(str, files))}: no model with an accuracy on ImageNet or a shifted set "
            f"of it; {step_counts.came_in} results, "
            f"rejected: {dict(step_counts.rejected)}. " + OWN
        )
    names = shortest(found)
    values = {
        names[model]: {axis: measured for axis, (measured, _) in accuracies.items()}
        for model, accuracies in found.items()
    }
    return Table("your models", dict.fromkeys(values, "yours"), values, step_counts)


def _take(
    found: dict[Model, dict[Axis, tuple[Measured, str]]], step_counts: StepCounts, result: Result
) -> None:
    axis = AXES.get(plain(result.dataset))
    if axis is None or result.value is None:
        step_counts.rejected[OTHER_SET if axis is None else NO_TOP1] += 1
        return
    value = fraction(result.value, result.where)
    if result.classes is not None and result.classes != CLASSES[axis]:
        raise ClipshiftError(
            f"{result.where}: {result.dataset!r} has {result.classes} classes, "
            f"{axis.name} has {CLASSES[axis]}: it is no set of ImageNet's. " + OWN
        )
    accuracies = found.setdefault(result.model, {})
    if axis not in accuracies:
        accuracies[axis] = Measured(value, result.n or size_of(axis)), result.where
    elif accuracies[axis][0].value == value:
        step_counts.rejected[REPEATED] += 1
    else:
        measured, where = accuracies[axis]
        raise ClipshiftError(
            f"{result.where}: {result.model.name(1)!r} has {value} on {axis.name}, but "
            f"{measured.value} in {where}; give one of them, or name the models apart"
        )


def fraction(value: Any, where: str) -> float:
    """An accuracy of a file.

    Raises:
        ClipshiftError: no number, none between 0 and 1, or a 1 that may be a percentage.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    shown = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}..."
    if math.isnan(number):
        raise ClipshiftError(f"{where}: {shown} is no accuracy, which is a number from 0 to 1")
    if not 0 <= number <= 1:
        raise ClipshiftError(f"{where}: {shown}; accuracies are fractions between 0 and 1")
    if str(value).strip() in ("1", "+1"):
        raise ClipshiftError(f"{where}: 1 may be 1 % or 100 %; write 0.01 or 1.0")
    return number


def _spread(files: list[Path]) -> list[Path]:
    """The files themselves, and those of folders, in order and each once."""
    sources: list[Path] = []
    for file in files:
        if not file.exists():
            raise ClipshiftError(f"{file} is not there; give files of results, or their folder")
        if file.is_dir():
            inside = (f for f in file.iterdir() if f.suffix.lower() in SUFFIXES)
            sources += sorted(f for f in inside if not f.is_dir())
        else:
            sources.append(file)
    if not sources:
        raise ClipshiftError(f"{', '.join(map(str, files))}: no .json, .jsonl or .csv there")
    return list(dict.fromkeys(sources))


def _results(file: Path) -> Iterator[Result]:
    regular_file(file)
    if file.suffix.lower() == ".csv":
        yield from _csv(file)
        return
    text = _text(file)
    several = file.suffix.lower() == ".jsonl"
    for number, line in enumerate(text.split("\n") if several else [text], 1):
        if not line.strip() and several:
            continue
        where = f"{file}, line {number}" if several else str(file)
        try:
            entries = parse_json(line)
        except ValueError as error:
            raise ClipshiftError(f"{where} is neither JSON nor csv: {error}") from None
        for entry in entries if isinstance(entries, list) else [entries]:
            yield from _entry(file, where, entry)


def _text(file: Path) -> str:
    if file.stat().st_size > MOST_BYTES:
        raise ClipshiftError(f"{file} is larger than {MOST_BYTES >> 20} MiB; is it a result?")
    data = file.read_bytes()
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeError as error:
        why = explain(file) or f"is no text in UTF-8 ({error}): save it as UTF-8"
        raise ClipshiftError(f"{file} is neither JSON nor csv; it {why}") from None


def _entry(file: Path, where: str, entry: Any) -> Iterator[Result]:
    """Results of one JSON object, by the keys that its format has."""
    if isinstance(entry, dict) and isinstance(entry.get("sets"), dict):  # ours
        name = str(entry.get("run") or entry.get("split") or file.stem)
        model = Model(path=(*file.resolve().parent.parts, name))
        for dataset, one in entry["sets"].items():
            place = f"{where}, `sets.{dataset}`"
            yield Result(model, dataset, *_of_ours(one, place))
    elif isinstance(entry, dict) and isinstance(entry.get("metrics"), dict):
        # CLIP_benchmark's; DataComp's lines have neither model nor task.
        task = str(entry.get("task") or "zeroshot_classification")
        key = TASKS.get(task, "")
        names = entry.get("classnames")
        yield Result(
            _model(entry, file, task),
            str(entry.get("dataset", "")),
            entry["metrics"].get(key),
            f"{where}, `metrics.{key}`",
            classes=len(names) if names and isinstance(names, list) else None,
        )
    elif isinstance(entry, dict) and any(map(OPEN_CLIP_TOP1.match, entry)):  # open_clip's jsonl
        epoch = [f"epoch {entry['epoch']}"] if entry.get("epoch") is not None else []
        named = entry.get("name")
        model = (
            Model((str(named),), after=(*epoch,))
            if named
            else Model(path=run_of(file), after=(*epoch,))
        )
        for key, value in entry.items():
            if match := OPEN_CLIP_TOP1.match(key):
                yield Result(model, match[1], value, f"{where}, `{key}`")
    else:
        raise ClipshiftError(
            f"{where} is no result of CLIP_benchmark (`dataset`, `metrics`), open_clip, DataComp "
            "or clipshift (`sets`)"
        )


def _of_ours(one: Any, where: str) -> tuple[Any, str, int, int]:
    """Accuracy, place, images and classes of an entry of our evaluations."""
    lacking = [
        key for key in ("top1", "n", "classes") if not isinstance(one, dict) or key not in one
    ]
    if lacking:
        raise ClipshiftError(f"{where} lacks {lacking}; make the evaluation again")
    n, classes = one["n"], one["classes"]
    if type(n) is not int or not 1 <= n <= POINTS or not isinstance(classes, list):
        raise ClipshiftError(f"{where}: `n` is no number of images, or `classes` no list of names")
    return one["top1"], f"{where}, `top1`", n, len(classes)


def _model(entry: Mapping[str, Any], file: Path, task: str) -> Model:
    """`MODEL PRETRAINED`, with what else tells its results apart."""
    if not entry.get("model"):
        return Model(path=run_of(file))
    language = str(entry.get("language") or "en")
    more = ["linear probe"] * (task == "linear_probe") + [language] * (language != "en")
    weights = weights_of(str(entry.get("pretrained") or ""), file)
    return Model((str(entry["model"]),), weights, (*more,))


def _csv(file: Path) -> Iterator[Result]:
    table = open_csv(file, lambda cell: False)
    columns = table.columns
    of_sets = [column for column in columns if plain(column) in AXES]
    clip_benchmark = {"dataset", "model"} <= set(columns)  # what `clip_benchmark build` writes
    if not clip_benchmark and not ("name" in columns and of_sets):  # open_clip's results
        raise ClipshiftError(
            f"{file}: a csv of results has the columns `dataset` and `model` (CLIP_benchmark), or "
            f"`name` and `ImageNet 1k` and so on (open_clip); this one has {columns[:8]}"
        )
    for number, cells in table.rows():
        where = f"{file}, row {number}"
        if isinstance(cells, str):
            raise ClipshiftError(f"{where}: {cells}; was the file cut off? Get it again")
        row = dict(zip(columns, cells, strict=True))
        if clip_benchmark:
            task = row.get("task") or "zeroshot_classification"
            key = TASKS.get(task, "")
            value = row.get(key) or None
            yield Result(_model(row, file, task), row["dataset"], value, f"{where}, `{key}`")
        else:
            model = Model((row["name"],), weights_of(row.get("pretrained", ""), file))
            for column in of_sets:
                yield Result(model, column, row[column] or None, f"{where}, `{column}`")
