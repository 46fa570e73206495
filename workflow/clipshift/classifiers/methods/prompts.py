"""Domain classifiers of the kind `prompts`."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from clipshift.classifiers.methods import SELECTS, linear_logits
from clipshift.study.config.classifier_base import (
    DOMAINS,
    ClassifierBase,
    Domain,
    Examples,
    classifier,
)
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.names import Name, Ref

if TYPE_CHECKING:
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("prompts")
class Prompts(ClassifierBase):
    """Zero-shot: the prompts of a label, through the text tower of the encoder."""

    kind: Literal["prompts"] = Field(description=SELECTS)
    encoder: Annotated[Name, Ref("encoder with a text tower")] = Field(
        description="The encoder whose embeddings it reads; it has a text tower."
    )
    prompts: dict[Domain, list[str]] = Field(
        description="Label -> prompts, averaged as in zero-shot classification."
    )

    @model_validator(mode="after")
    def _whole(self) -> "Prompts":
        if lacking := [d for d in DOMAINS if not self.prompts.get(d)]:
            raise ValueError(f"prompts: none for {lacking}")
        if self.form != "ternary":
            raise ValueError("prompts know no population: `form: ternary`")
        return self

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        """Per label the mean embedding of its prompts, times CLIP's logit scale."""
        import numpy as np
        import torch

        from clipshift.core.device import pick_device
        from clipshift.similarity.open_clip_models import text_classifier

        clip = encoder.clip(pick_device())
        with torch.inference_mode():
            means = text_classifier(clip, [self.prompts[d] for d in DOMAINS]).T  # (3, D)
            scaled = means * clip.model.logit_scale.exp()
        return {"weights": scaled.float().cpu().numpy(), "bias": np.zeros(len(DOMAINS))}

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        return partial(linear_logits, arrays)
