"""Encoders of the kind `run`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clipshift.similarity.encoders import BATCH, SELECTS
from clipshift.study.config.encoder_base import EncoderBlock, Trained, encoder
from clipshift.study.config.names import ModelName, SplitName
from clipshift.study.config.numbers import Seed

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder
    from clipshift.similarity.open_clip_models import Clip


@encoder("run")
class RunEncoder(EncoderBlock):
    """The image tower of a model that this study trains: a second look at similarity."""

    kind: Literal["run"] = Field(description=SELECTS)
    split: SplitName = Field(description="The split that it was trained on.")
    model: ModelName = Field(description="The model.")
    seed: Seed = Field(description="The seed.")
    batch: int = Field(default=64, ge=1, le=100_000, description=BATCH)

    has_text_tower: ClassVar[bool] = True
    of_open_clip: ClassVar[bool] = True

    @property
    def trained(self) -> Trained:
        return Trained(self.split, self.model, self.seed)

    def load(self, device: "torch.device") -> "Encoder":
        from clipshift.similarity.encoder import Encoder

        clip = self.clip(device)
        return Encoder(
            clip.preprocess, clip.model.encode_image, self.batch, clip.device, clip.model.visual
        )

    def clip(self, device: "torch.device") -> "Clip":
        """The device is the one that the model was evaluated on: what there is."""
        from clipshift.core.files import read_json
        from clipshift.similarity import open_clip_models

        folder = Path("results/models") / self.trained.run
        record = read_json(folder / "record.json")
        with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
            return open_clip_models.load(
                record["model"], record["training"]["model"], folder / "model.pt", Path(scratch)
            )
