"""Domain classifiers of the kind `centroid`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clipshift.classifiers.methods import SELECTS
from clipshift.study.config.classifier_base import Examples, Trained, classifier
from clipshift.study.config.encoder_base import EncoderBlock

if TYPE_CHECKING:
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("centroid")
class Centroid(Trained):
    """The nearest class mean, by the cosine."""

    kind: Literal["centroid"] = Field(description=SELECTS)

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        import numpy as np

        means = np.stack([train.x[train.targets == c].mean(0) for c in range(train.classes)])
        unit = means / np.linalg.norm(means, axis=1, keepdims=True)
        return {"means": unit.astype(np.float32)}

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        """Cosines to the class means: the largest is the *nearest* mean.

        (The paper's code once took the farthest.)
        """
        return lambda x: x @ arrays["means"].T.astype("float64")
