"""Encoders of the kind `csd`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from clipshift.core.errors import ClipshiftError
from clipshift.similarity.encoders import BATCH, SELECTS, WEIGHTS, weights_file
from clipshift.study.config.encoder_base import EncoderBlock, encoder
from clipshift.study.planning.towers import published

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder

ORIGIN = "https://huggingface.co/tomg-group-umd/CSD-ViT-L"
BACKBONE, STYLE, CONTENT = "backbone.", "last_layer_style", "last_layer_content"


@encoder("csd")
class CsdEncoder(EncoderBlock):
    """Contrastive style descriptors (Somepalli et al. 2024): CLIP's image tower, a style head."""

    kind: Literal["csd"] = Field(description=SELECTS)
    weights: str = Field(
        pattern=r"\S", description=f"{WEIGHTS} The authors' checkpoint as it was released."
    )
    model: str = Field(
        default="ViT-L-14-quickgelu",
        pattern=r"\S",
        description="open_clip model whose image tower it was trained from.",
    )
    batch: int = Field(default=64, ge=1, le=100_000, description=BATCH)

    describes_style: ClassVar[bool] = True

    @property
    def architecture(self) -> Mapping[str, Any] | None:
        return published(self.model)

    def load(self, device: "torch.device") -> "Encoder":
        import open_clip

        from clipshift.core.weights import fit, read_weights
        from clipshift.similarity.encoder import Encoder

        path = weights_file(self.weights, ORIGIN)
        state = read_weights(path)
        if STYLE not in state:
            raise ClipshiftError(
                f"{path} has no {STYLE!r}, so it holds no style descriptor; get {ORIGIN}"
            )
        if self.model not in open_clip.list_models():
            raise ClipshiftError(f"open_clip has no model {self.model!r}")
        model, _, preprocess = open_clip.create_model_and_transforms(self.model, load_weights=False)
        # The style head stands where the tower had its projection into CLIP's space; the other
        # head, of content, was for training only.
        tower = {
            name.removeprefix(BACKBONE): value
            for name, value in state.items()
            if name.split(".")[0] not in (STYLE, CONTENT)
        }
        fit(model.visual, tower | {"proj": state[STYLE]}, path)
        visual = model.visual.eval().to(device)
        return Encoder(preprocess, visual, self.batch, device, visual)
