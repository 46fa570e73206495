"""Domain classifiers of the kind `finetune`."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from clipshift.classifiers.methods import SELECTS
from clipshift.study.config.classifier_base import Examples, Trained, classifier
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.numbers import Scaled, Seed

if TYPE_CHECKING:
    from clipshift.similarity.encoder import Encoder
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("finetune")
class Finetune(Trained):
    """A linear readout of an encoder that is tuned with it (SGD, best epoch by validation)."""

    later = Trained.later | {"features", "transform", "accumulation", "precision"}

    kind: Literal["finetune"] = Field(description=SELECTS)
    frozen: bool = Field(default=False, description="Train the readout only.")
    features: Literal["embedding", "tower"] = Field(
        default="embedding",
        description="What the readout reads: the `embedding`, L2-normalised; or what open_clip's "
        "`tower` has behind its last norm, with the projection removed and not normalised (1024-d "
        "of ViT-L/14).",
    )
    transform: Literal["evaluation", "training"] = Field(
        default="evaluation",
        description="How images are prepared for learning: as for scoring (`evaluation`), or by "
        "open_clip's `training` transform (a random resized crop of at least 0.9 of the area), "
        "drawn for each image and epoch by the seed.",
    )
    epochs: Annotated[int, Scaled("epochs")] = Field(
        default=50, ge=1, le=100_000, description="Passes over the training images."
    )
    batch: Annotated[int, Scaled("batch")] = Field(
        default=256, ge=1, le=100_000, description="Batch size."
    )
    accumulation: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="Parts in which the images of a batch pass, one after the other, where memory "
        "is too small for all at once.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="Of the encoder, in learning and in scoring: `bf16` computes its products in "
        "bfloat16; weights and readout stay float32.",
    )
    lr: float = Field(default=0.1, gt=0, le=100, description="Learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum.")
    weight_decay: float = Field(default=5e-4, ge=0, le=100, description="Weight decay.")
    step: int = Field(
        default=20, ge=1, le=100_000, description="Epochs after which the rate is multiplied."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of each step.")
    seed: Seed = Field(default=0, description="Seed of readout, order and crops.")

    tunes: ClassVar[bool] = True

    @model_validator(mode="after")
    def _parts_hold_images(self) -> "Finetune":
        if self.accumulation > self.batch:
            raise ValueError(
                f"a batch of {self.batch} images has no {self.accumulation} parts; lower "
                "`accumulation`"
            )
        return self

    @property
    def passes(self) -> int:
        return self.epochs

    def refuses(self, encoder: EncoderBlock) -> str | None:
        if encoder.of_open_clip or (self.features, self.transform) == ("embedding", "evaluation"):
            return None
        return "`features: tower` and `transform: training` need a tower of open_clip"

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        """Each model starts from the encoder's own weights."""
        from clipshift.classifiers import tuning

        sides = (train.x, train.targets), (check.x, check.targets)
        return tuning.tune(self, self._loaded(encoder), *sides, train.classes).state()

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        from clipshift.classifiers import tuning

        return tuning.restore(self, self._loaded(encoder), dict(arrays)).logits

    def _loaded(self, encoder: EncoderBlock) -> "Encoder":
        """The encoder, of which the readout reads what `forward` gives."""
        from clipshift.similarity import encoders, open_clip_models

        # The precision of embeddings is not that of tuning.
        own = encoders.load(encoder.model_copy(update={"precision": "fp32"}))
        return own if self.features == "embedding" else open_clip_models.without_projection(own)
