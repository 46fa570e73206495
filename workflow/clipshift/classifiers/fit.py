"""Fit one domain classifier on the training concepts, and calibrate it on the validation ones.

`model` holds the weights, `record` how they were fitted, and `parts` what each labelled image was
used for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.classifiers import classifier, reductions
from clipshift.classifiers.domain_labels import read_labels
from clipshift.classifiers.folds import (
    TEST,
    TRAIN,
    VALIDATION,
    Labelled,
    concepts,
    read_labelled,
    training,
)
from clipshift.core.counts import tolerate
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json, write_parquet
from clipshift.core.step import step
from clipshift.datasets.images import Undecodable, check
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.similarity.embeddings import list_shards, open_shard, read_all
from clipshift.study.config.classifier_base import DOMAINS, Examples
from clipshift.study.config.domains import Labels


def vectors_of(folders: Sequence[Path], keys: Sequence[str]) -> np.ndarray:
    """(N, D) float64: the embeddings of some keys, found by key among some folders.

    Raises:
        ClipshiftError: a key has no embedding; the message counts them.
    """
    found: dict[str, np.ndarray] = {}
    wanted = set(keys)
    for folder in folders:
        stored = read_all(folder)
        found |= {
            key: vector
            for key, vector in zip(stored.keys, stored.vectors, strict=True)
            if key in wanted
        }
    _all_there(wanted, found, folders)
    return np.stack([found[key] for key in keys]).astype(np.float64)


def images_of(tars: Sequence[Path], keys: Sequence[str]) -> list[bytes]:
    """The encoded images of some keys, in their order.

    Raises:
        ClipshiftError: a key has no image.
    """
    wanted = set(keys)
    found = {s.key: s.image for s in read_tars(tars) if s.key in wanted and s.has_image}
    _all_there(wanted, found, tars)
    return [found[key] for key in keys]


def unusable(
    spec: classifier.Spec, keys: Sequence[str], folders: Sequence[Path], tars: Sequence[Path]
) -> dict[str, str]:
    """The labelled images that a classifier cannot read: key -> reason.

    Raises:
        ClipshiftError: there are too many of them.
    """
    wanted, found = set(keys), {}
    if spec.classifier.tunes:
        for sample in read_tars(tars):
            if sample.key in wanted:
                try:
                    check(sample.image)
                except Undecodable as reason:
                    found[sample.key] = str(reason)
    else:
        for folder in folders:
            for shard in list_shards(folder):
                wanted -= set(open_shard(folder, shard).keys)
        found = dict.fromkeys(wanted, "not embedded")
    where = ", ".join(str(path) for path in [*folders, *tars][:3])
    tolerate(found, len(keys), f"labelled images of {where}")
    return dict(sorted(found.items()))


def _all_there(wanted: set[str], found: Mapping[str, Any], where: Sequence[Path]) -> None:
    if missing := wanted - found.keys():
        raise ClipshiftError(
            f"{len(missing)} labelled images, e.g. {min(missing)!r}, are not in "
            f"{', '.join(map(str, where[:3]))}; label only what the data sets hold"
        )


def fit(
    spec: classifier.Spec, labelled: Labelled, folders: Sequence[Path], tars: Sequence[Path]
) -> tuple[classifier.Models, dict[str, Any]]:
    """Fit and calibrate; the weights, and the record of how."""
    own = spec.classifier
    checked = {part: labelled.of(part) for part in (VALIDATION, TEST)}
    if own.sampling is None:
        learned, problems = labelled.of("nobody"), [reductions.NOTHING]
    else:
        learned = training(labelled, *own.sampling, spec.parts.seed)
        problems = reductions.problems(own, learned.labels)
    x = features(spec, {TRAIN: learned, **checked}, folders, tars)
    arrays: classifier.Models = {}
    for problem in problems:
        check = reductions.problems(own, checked[VALIDATION].labels, VALIDATION)
        same = next(p for p in check if p.name == problem.name)
        present = np.unique(problem.targets) if len(problem.targets) else np.arange(problem.classes)
        if more := set(same.targets.tolist()) - set(present.tolist()):
            raise ClipshiftError(
                f"labelled images of the part {VALIDATION!r} are {DOMAINS[min(more)]}, and none of "
                f"the part {TRAIN!r}: label more, or shift the shares of the parts"
            )
        arrays[problem.name] = own.fit(
            _examples(problem, present, x[TRAIN]), _examples(same, present, x[VALIDATION]),
            spec.encoder,
        )  # fmt: skip
        if len(present) < problem.classes:
            arrays[problem.name][classifier.PRESENT] = present
    raw = classifier.Fitted(own, spec.encoder, arrays, {})
    temperatures, losses = {}, {}
    logits = {
        part: {name: raw.raw(name, k, x[part]) for name, k in reductions.names(own)}
        for part in checked
    }
    for name, _ in reductions.names(own):
        sides = {
            part: next(
                p for p in reductions.problems(own, checked[part].labels, part) if p.name == name
            )
            for part in checked
        }
        z = {part: logits[part][name][side.rows] for part, side in sides.items()}
        t = reductions.temperature(z[VALIDATION], sides[VALIDATION].targets)
        temperatures[name] = t
        losses[name] = {
            part: {
                "before": reductions.log_loss(z[part], side.targets),
                "after": reductions.log_loss(z[part], side.targets, t),
            }
            for part, side in sides.items()
        }
    record = {
        "spec": spec.model_dump(mode="json"),
        "pictures": labelled.counts(),
        "not_used_concept_of_a_test_set": dict(labelled.dropped),
        "learned_from": {d: int((learned.labels == i).sum()) for i, d in enumerate(DOMAINS)},
        "temperatures": temperatures,
        "log_loss": losses,
    }
    return arrays, record


def features(
    spec: classifier.Spec, parts: Mapping[str, Labelled], folders: Sequence[Path],
    tars: Sequence[Path],
) -> dict[str, Any]:  # fmt: skip
    """Per part what the classifier reads of it, in the order of its keys: embeddings or images.

    Everything is looked up by key, in one pass.
    """
    names = {part: [str(key) for key in mine.keys] for part, mine in parts.items()}
    every = [key for keys in names.values() for key in keys]
    if spec.classifier.tunes:
        found = dict(zip(every, images_of(tars, every), strict=True))
        return {part: [found[key] for key in keys] for part, keys in names.items()}
    vectors = vectors_of(folders, every)
    ends = np.cumsum([len(keys) for keys in names.values()])[:-1]
    return dict(zip(names, np.split(vectors, ends), strict=True))


def _examples(problem: reductions.Problem, present: np.ndarray, x: Any) -> Examples:
    """What a model reads: the embeddings or images of a part that it is about.

    Args:
        present: classes that there are images of, which the model numbers from 0.
    """
    own = x[problem.rows] if isinstance(x, np.ndarray) else [x[i] for i in problem.rows]
    return Examples(own, np.searchsorted(present, problem.targets), len(present))


@step(version=2)
def write_fit(
    spec: classifier.Spec, labels: list[Path], rule: Labels, tested: list[Path],
    vectors: list[Path], tars: list[str], model: Path, record: Path, parts: Path,
) -> None:  # fmt: skip
    """Fit a classifier, and write what scores need of it. Labelled images that cannot be read are
    left out, and named.

    Args:
        labels: of the data sets that it learns from; vectors: their embedding folders, or `tars`:
            their images, where it tunes an encoder.
        rule: `domains.labels`, by which the concepts of test sets are found.
        tested: sample tables of the test sets whose concepts are kept out.
    """
    outside, *_ = read_labels(tested, rule, agree=0)
    labelled = read_labelled(labels, concepts(outside.to_pylist()), spec.parts)
    paths = tars_of(tars, data_folder())
    left_out = unusable(spec, labelled.keys.tolist(), vectors, paths)
    labelled = labelled.without(left_out)
    arrays, entry = fit(spec, labelled, vectors, paths)
    entry |= {"left_out": left_out} if left_out else {}
    entry["test_sets_kept_out"] = sorted(file.parent.name for file in tested)
    classifier.save(arrays, model)
    write_parquet(parts, labelled.table())
    write_json(record, entry)
