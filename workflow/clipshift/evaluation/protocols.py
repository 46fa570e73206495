"""How a trained model is evaluated: (N, C) scores for the classes of a test set.

A CLIP model by prompts, a classifier by its own layer, and either, or a SimCLR tower, by a linear
probe on features of labelled training images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from clipshift.core.counts import tolerate
from clipshift.core.device import autocast, pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.core.weights import fit, read_weights
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode
from clipshift.datasets.prompts import templates
from clipshift.datasets.select import seeded_order
from clipshift.datasets.tar_paths import data_folder, read_tars, tars_of
from clipshift.datasets.tars import Sample
from clipshift.evaluation.views import published
from clipshift.similarity import open_clip_models
from clipshift.study.config.causes import (
    OPENAI_IMAGENET,
    AnyControlled,
    LinearHead,
    PromptHead,
)
from clipshift.study.config.objective_base import Controlled, Vision
from clipshift.study.config.trainings import Training
from clipshift.training.towers import build

# Per class of a set the classes of a model that stand for it; None: those of the same name.
Answers = list[list[int]] | None
# The score of a class that a head has never seen.
_NEVER = -1e9
# Features are normalised before a linear probe, as for zero-shot classification.
_TINY = 1e-12
_CONTROLLED: TypeAdapter[Controlled] = TypeAdapter(AnyControlled)


@dataclass(frozen=True)
class Model:
    """A trained model in evaluation mode.

    features: (B, 3, H, W) -> (B, D) of its vision tower, not normalised; classes: of its own layer.
    """

    features: Callable[[Tensor], Tensor]
    preprocess: Callable[[Image.Image], Tensor]
    device: torch.device
    clip: open_clip_models.Clip | None
    layer: torch.nn.Module | None
    classes: list[str]


def load(
    record: dict[str, Any], weights: Path, folder: Path, precision: str = "fp32"
) -> Model:  # fmt: skip
    """Load a run of either trainer; its features are computed in a precision."""
    model = _load(record, weights, folder)
    return replace(model, features=autocast(model.features, model.device, precision))


def _load(record: dict[str, Any], weights: Path, folder: Path) -> Model:
    training = Training.model_validate(record["training"])
    block = record.get("controlled")
    spec = _CONTROLLED.validate_python(block) if block else None
    if not isinstance(spec, Vision):
        clip = open_clip_models.load("clipshift-eval", training.model, weights, folder)
        return Model(clip.model.encode_image, clip.preprocess, clip.device, clip, None, [])
    import open_clip

    tower = build(training, spec, len(record["classes"]), 0, folder)
    fit(tower, read_weights(weights), weights)
    device = pick_device()
    tower.eval().to(device)
    visual: Any = tower.visual
    preprocess = open_clip.image_transform(
        visual.image_size, is_train=False, mean=visual.image_mean, std=visual.image_std
    )
    layer = tower.head if spec.protocol == "layer" else None
    return Model(visual, preprocess, device, None, layer, record["classes"])


@dataclass(frozen=True)
class Seen:
    """What a model sees of some samples.

    Attributes:
        keys: of those that can be decoded, in their order; x: (N, D) float32 their features.
        left_out: key -> the reason why another one cannot.
    """

    keys: list[str]
    x: np.ndarray
    left_out: dict[str, str]


def features(
    model: Model, samples: Iterator[Sample], batch: int, background: Colour = WHITE
) -> Seen:
    """Features of images in evaluation view.

    Raises:
        ClipshiftError: none can be decoded.
    """
    left_out: dict[str, str] = {}

    def decoded() -> Iterator[tuple[str, Image.Image]]:
        for sample in samples:
            try:
                yield sample.key, decode(sample.image, background)
            except Undecodable as reason:
                left_out[sample.key] = str(reason)

    keys: list[str] = []
    parts = []
    images = decoded()
    with torch.inference_mode():
        while some := list(islice(images, batch)):
            keys += [key for key, _ in some]
            stacked = torch.stack([model.preprocess(image) for _, image in some])  # (B, 3, H, W)
            parts.append(model.features(stacked.to(model.device)).float().cpu().numpy())
    if not parts:
        raise ClipshiftError(f"none of {len(left_out)} images can be decoded: {left_out}")
    return Seen(keys, np.concatenate(parts), left_out)


@dataclass(frozen=True)
class Asked:
    """What a protocol reads of a test set.

    Attributes:
        names: of its C classes, in index order.
        templates: the study's prompt templates; words: class -> its words, where it has any.
        answers: see `Answers`.
    """

    names: Sequence[str]
    templates: Sequence[str] = ()
    words: Mapping[str, Sequence[str]] | None = None
    answers: Answers = None


# From (N, D) features and what is read of a set to (N, C) scores, and what the record must say.
Scorer = Callable[[np.ndarray, Asked], tuple[np.ndarray, dict[str, Any]]]


@dataclass(frozen=True)
class Labelled:
    """Labelled training images of a run.

    Attributes:
        chosen: their table; tars: words, see `tar_paths`.
        classes: of the labels, or the file that lists them.
    """

    chosen: Path
    tars: list[str]
    classes: list[str] | Path


def asked(folder: Path, names: Sequence[str], rule: Path | None, text: bool) -> Asked:
    """What a protocol reads of the folder of a test set.

    Args:
        rule: JSON of the set's entry in `causes.answers`.
        text: whether the protocol reads prompts.
    """
    if not text:
        return Asked(names, answers=answers_of(read_json(rule) if rule else None, names))
    given = (folder / "zeroshot_classification_templates.txt").read_text().splitlines()
    return Asked(names, given, read_json(folder / "words.json"))


def reads_text(model: Model, head: PromptHead | LinearHead | None) -> bool:
    """Whether a protocol of a model reads prompts."""
    return isinstance(head, PromptHead) or (head is None and model.layer is None)


def scorer(
    model: Model, head: PromptHead | LinearHead | None, batch: int, train: Labelled | None,
    background: Colour = WHITE,
) -> Scorer:  # fmt: skip
    """The scorer of a protocol; of none, the model's own: the study's prompts, or its layer.

    Raises:
        ClipshiftError: the model cannot be evaluated by it.
    """
    if isinstance(head, LinearHead):
        if train is None:
            raise ClipshiftError("causes.heads: a linear head needs labelled training images")
        return _linear(model, head, batch, train, background)
    if head is None and model.layer is not None:
        return _own(model)
    if model.clip is None:
        raise ClipshiftError("this model has no text tower and no layer: ask it by a linear head")
    return _prompts(model.clip, head)


def _unit(x: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY)
    return scaled


def prompts_of(
    names: Sequence[str], given: Sequence[str], words: Mapping[str, Sequence[str]]
) -> list[list[str]]:
    """Per class, every word of it in every template."""
    return [[t.replace("{c}", w) for w in words.get(name, [name]) for t in given] for name in names]


def _prompts(clip: open_clip_models.Clip, head: PromptHead | None) -> Scorer:
    def score(x: np.ndarray, asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
        given, words = list(asked.templates), asked.words or {}
        if head is not None:
            spoken = head.templates
            given = templates([spoken] if spoken == OPENAI_IMAGENET else list(spoken))
            words = words if head.words else {}
        with torch.inference_mode():
            prompts = prompts_of(asked.names, given, words)
            text = open_clip_models.text_classifier(clip, prompts).cpu().numpy()  # (D, C)
        said = {c: list(words.get(c, [c])) for c in asked.names}
        return _unit(x) @ text, {"head": "prompts", "templates": given, "words": said}

    return score


def _own(model: Model) -> Scorer:
    def score(x: np.ndarray, asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
        with torch.inference_mode():
            logits = model.layer(torch.from_numpy(x).to(model.device)).cpu().numpy()  # type: ignore[misc]
        return answered(logits, model.classes, asked), _silent("own layer")

    return score


def _linear(
    model: Model, head: LinearHead, batch: int, train: Labelled, background: Colour
) -> Scorer:
    x, y, left_out = probe_data(model, head, batch, train, background)
    named = train.classes
    classes = named.read_text().splitlines() if isinstance(named, Path) else named
    probe = LogisticRegression(C=head.c, max_iter=head.iterations)
    probe.fit(_unit(x), y)

    def score(x: np.ndarray, asked: Asked) -> tuple[np.ndarray, dict[str, Any]]:
        found = probe.decision_function(_unit(x))
        if found.ndim == 1:  # two classes
            found = np.stack([-found, found], axis=1)
        logits = np.full((len(x), len(classes)), _NEVER)
        logits[:, probe.classes_] = found
        said = _silent("linear probe") | {"probe_pictures": len(y)}
        said |= {"probe_left_out": left_out} if left_out else {}
        return answered(logits, classes, asked), said

    return score


def probe_data(
    model: Model, head: LinearHead, batch: int, train: Labelled, background: Colour = WHITE
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """(N, D) features and (N,) labels of the probe's images, in the order of keys; and those that
    cannot be decoded, with the reason.

    Raises:
        ClipshiftError: they have one class only.
    """
    table = read_parquet(train.chosen, ["key", "kept", "labels"])
    table = table.filter(table["kept"])
    pairs = zip(table["key"].to_pylist(), table["labels"].to_pylist(), strict=True)
    labels = {key: found[0] for key, found in pairs if len(found) == 1}
    chosen = sorted(labels, key=lambda key: (seeded_order(head.seed, key), key))[: head.most]
    if len({labels[key] for key in chosen}) < 2:
        raise ClipshiftError(f"{train.chosen}: a linear probe needs images of two classes")
    samples = _samples(tars_of(train.tars, data_folder()), set(chosen))
    seen = features(model, samples, batch, background)
    tolerate(seen.left_out, len(chosen), f"images of {train.chosen}")
    order = np.argsort(seen.keys)
    return seen.x[order], np.array([labels[seen.keys[i]] for i in order]), seen.left_out


def _samples(tars: Sequence[Path], keys: set[str]) -> Iterator[Sample]:
    return (sample for sample in read_tars(tars) if sample.key in keys)


def _silent(head: str) -> dict[str, Any]:
    """What a result says of a head that reads no text."""
    return {"head": head, "templates": [], "words": {}}


def answered(logits: np.ndarray, classes: Sequence[str], asked: Asked) -> np.ndarray:
    """(N, C') scores of a set's classes from (N, C) of the model's; of several, the largest."""
    places = columns(classes, asked.names) if asked.answers is None else asked.answers
    return np.stack([logits[:, mine].max(1) for mine in places], axis=1)


def answers_of(rule: str | dict[str, list[int]] | None, names: Sequence[str]) -> Answers:
    """Per class of a set the classes of the training that stand for it.

    Raises:
        ClipshiftError: the rule does not know all classes of the set.
    """
    if rule is None:
        return None
    if isinstance(rule, str):
        places = published(rule)
        if len(places) != len(names):
            raise ClipshiftError(f"causes.answers: {rule} has {len(places)} classes, a set of "
                                 f"{len(names)} is not it")  # fmt: skip
        return [[i] for i in places]
    if unknown := [name for name in names if not rule.get(name)]:
        raise ClipshiftError(f"causes.answers: no class stands for {unknown[:5]}")
    return [rule[name] for name in names]


def columns(classes: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Where the classes of a set stand among a model's, by name.

    >>> columns(["cat", "dog", "cow"], ["cow", "cat"])
    [[2], [0]]

    Raises:
        ClipshiftError: a class of the set is none of the model's, or two of them share its name.
    """
    if list(classes) == list(names):
        return [[i] for i in range(len(names))]
    places: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        places.setdefault(name, []).append(index)
    if unknown := [name for name in names if len(places.get(name, [])) != 1]:
        raise ClipshiftError(
            f"the test set has classes that are not one class of the model's: {unknown[:5]}; say "
            "in causes.answers which of the model's classes stand for them"
        )
    return [places[name] for name in names]
