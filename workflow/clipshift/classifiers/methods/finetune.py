"""Domain classifiers of the kind `finetune`."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from clipshift.classifiers.methods import SELECTS
from clipshift.study.config.classifier_base import Examples, Trained, classifier
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.numbers import Scaled, Seed

if TYPE_CHECKING:
    from clipshift.study.config.classifier_base import Arrays, Model


@classifier("finetune")
class Finetune(Trained):
    """A linear readout of an encoder that is tuned with it (SGD, best epoch by validation)."""

    kind: Literal["finetune"] = Field(description=SELECTS)
    frozen: bool = Field(default=False, description="Train the readout only.")
    epochs: Annotated[int, Scaled("epochs")] = Field(
        default=50, ge=1, le=100_000, description="Passes over the training images."
    )
    batch: Annotated[int, Scaled("batch")] = Field(
        default=256, ge=1, le=100_000, description="Batch size."
    )
    lr: float = Field(default=0.1, gt=0, le=100, description="Learning rate.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum.")
    weight_decay: float = Field(default=5e-4, ge=0, le=100, description="Weight decay.")
    step: int = Field(
        default=20, ge=1, le=100_000, description="Epochs after which the rate is multiplied."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of each step.")
    seed: Seed = Field(default=0, description="Seed of readout and order.")

    tunes: ClassVar[bool] = True

    @property
    def passes(self) -> int:
        return self.epochs

    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        """Each model starts from the encoder's own weights."""
        from clipshift.classifiers import tuning
        from clipshift.similarity import encoders

        own = encoders.load(encoder)
        sides = (train.x, train.targets), (check.x, check.targets)
        return tuning.tune(self, own, *sides, train.classes).state()

    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        from clipshift.classifiers import tuning
        from clipshift.similarity import encoders

        return tuning.restore(encoders.load(encoder), dict(arrays)).logits
