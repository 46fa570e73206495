"""A fitted domain classifier: its weights as one npz, and log-odds of embeddings or images."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipshift.classifiers import methods, reductions
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_json
from clipshift.study.config.classifier_base import ClassifierBase
from clipshift.study.config.data import Block
from clipshift.study.config.domains import Classifier, Parts
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.encoders import Encoder

# Array of a model: its classes, where the labels had not all of the form's.
PRESENT = "present"
Models = dict[str, dict[str, np.ndarray]]  # problem -> its arrays


class Spec(Block):
    """A classifier with all that it depends on in the configuration."""

    classifier: Classifier
    encoder: Encoder
    parts: Parts


@dataclass(frozen=True)
class Fitted:
    """A classifier that can score.

    Attributes:
        models: problem -> arrays of `heads`, or the state of a tuned encoder.
        temperatures: problem -> what its logits are divided by.
    """

    spec: ClassifierBase
    encoder: EncoderBlock
    models: Models
    temperatures: dict[str, float]

    def model(self, name: str, classes: int) -> Callable[[Any], np.ndarray]:
        """One model: embeddings (N, D) or encoded images -> (N, K) logits.

        Those of a class that no labelled image had are minus infinity.
        """
        arrays = dict(self.models[name])
        present = arrays.pop(PRESENT, np.arange(classes))
        model = self.spec.model(arrays, len(present), self.encoder)

        def spread(x: Any) -> np.ndarray:
            every = np.full((len(x), classes), -np.inf)
            every[:, present] = model(x)
            return every

        return model if len(present) == classes else spread

    def raw(self, name: str, classes: int, x: Any) -> np.ndarray:
        """(N, K) logits of one model, for embeddings (N, D) or encoded images."""
        return methods.logits(self.spec, self.model(name, classes), x)

    def scores(self, x: np.ndarray | Sequence[bytes]) -> dict[str, np.ndarray]:
        """Domain -> (N,) float32 calibrated log-odds."""
        logits = {
            name: self.raw(name, classes, x) / self.temperatures[name]
            for name, classes in reductions.names(self.spec)
        }
        return reductions.log_odds(self.spec.form, logits)


def save(models: Models, out: Path) -> None:
    """Write the arrays of all models: equal arrays, equal bytes."""
    flat = {f"{name}/{key}": models[name][key] for name in sorted(models) for key in models[name]}
    with atomic(out) as stream:
        np.savez(stream, **flat)  # type: ignore[arg-type]


def load(spec: Spec, model: Path, record: Path) -> Fitted:
    """Read a fitted classifier.

    Raises:
        ClipshiftError: the file is damaged.
    """
    models: Models = {}
    try:
        with np.load(model, allow_pickle=False) as arrays:
            for full in arrays.files:
                name, _, key = full.partition("/")
                models.setdefault(name, {})[key] = arrays[full]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ClipshiftError(
            f"{model} is not readable ({error}); delete it and run again"
        ) from error
    return Fitted(spec.classifier, spec.encoder, models, read_json(record)["temperatures"])
