"""Domain classifiers of the kind `linear`."""

from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clipshift.classifiers.methods import SELECTS, linear_logits
from clipshift.study.config.classifier_base import Examples, Trained, classifier
from clipshift.study.config.encoder_base import EncoderBlock

if TYPE_CHECKING:
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("linear")
class Linear(Trained):
    """A linear probe: logistic regression on embeddings."""

    kind: Literal["linear"] = Field(description=SELECTS)
    c: float = Field(default=1.0, gt=0, le=1e12, description="Inverse strength of the L2 penalty.")
    weighted: bool = Field(default=True, description="Give every label the same total weight.")

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        """Logistic regression by lbfgs; of two classes, the logit is the second one's."""
        import numpy as np
        from sklearn.linear_model import LogisticRegression

        weight = "balanced" if self.weighted else None
        model = LogisticRegression(C=self.c, class_weight=weight, max_iter=2000)
        model.fit(train.x, train.targets)
        weights, bias = model.coef_, model.intercept_
        if len(weights) == 1:
            weights = np.concatenate([np.zeros_like(weights), weights])
            bias = np.concatenate([[0.0], bias])
        return {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        return partial(linear_logits, arrays)
