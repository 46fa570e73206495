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
    """The nearest class mean."""

    kind: Literal["centroid"] = Field(description=SELECTS)
    distance: Literal["cosine", "euclidean"] = Field(
        default="cosine",
        description="`cosine`: of an embedding and the direction of a mean; `euclidean`: squared, "
        "to the mean itself (the paper's).",
    )

    later = Trained.later | {"distance"}

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        import numpy as np

        means = np.stack([train.x[train.targets == c].mean(0) for c in range(train.classes)])
        if self.distance == "cosine":
            means /= np.linalg.norm(means, axis=1, keepdims=True)
        return {"means": means.astype(np.float32)}

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        """Cosines, or squared distances with a minus: the largest is the *nearest* mean's.

        (The paper's code once took the farthest.)
        """
        means = arrays["means"].astype("float64")  # (K, D)
        if self.distance == "cosine":
            return lambda x: x @ means.T
        # Without |x|^2, which is the same for all classes.
        return lambda x: 2 * x @ means.T - (means**2).sum(1)
