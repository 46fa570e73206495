"""Domain classifiers of the kind `knn`."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clipshift.classifiers.methods import SELECTS
from clipshift.study.config.classifier_base import Examples, Trained, classifier
from clipshift.study.config.encoder_base import EncoderBlock

# Added to every class's count of neighbours: no logit is infinite.
HALF = 0.5
# Rows of a shard whose neighbours are looked for at once.
ROWS = 4096

if TYPE_CHECKING:
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("knn")
class Knn(Trained):
    """The labels of the nearest training images, by the cosine."""

    kind: Literal["knn"] = Field(description=SELECTS)
    k: int = Field(default=15, ge=1, le=100_000, description="Neighbours.")

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        return {"vectors": train.x.astype("float16"), "labels": train.targets.astype("int64")}

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        import numpy as np
        from sklearn.neighbors import NearestNeighbors

        base = arrays["vectors"].astype(np.float64)
        search = NearestNeighbors(n_neighbors=min(self.k, len(base)), algorithm="brute").fit(base)

        def logits(x: np.ndarray) -> np.ndarray:
            parts = []
            for start in range(0, len(x), ROWS):
                near = search.kneighbors(x[start : start + ROWS], return_distance=False)  # (n, k)
                votes = arrays["labels"][near]
                parts.append(np.stack([(votes == c).sum(1) for c in range(classes)], axis=1))
            counts = np.concatenate(parts) if parts else np.zeros((0, classes))
            log: np.ndarray = np.log(counts + HALF)
            return log

        return logits
