"""Encoders of the kind `open_clip`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from clipshift.core.errors import ClipshiftError
from clipshift.similarity.encoders import BATCH, SELECTS
from clipshift.study.config.encoder_base import EncoderBlock, encoder
from clipshift.study.planning.towers import published

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder
    from clipshift.similarity.open_clip_models import Clip


def _weights(name: str) -> str:
    if not name.strip():
        raise ValueError("names no weights, and random ones measure nothing; give a tag or a path")
    return name


@encoder("open_clip")
class OpenClipEncoder(EncoderBlock):
    """An image encoder of open_clip."""

    kind: Literal["open_clip"] = Field(description=SELECTS)
    model: str = Field(pattern=r"\S", description="open_clip model name, e.g. ViT-B-16-plus-240.")
    pretrained: Annotated[str, AfterValidator(_weights)] = Field(
        description="Tag of the weights, or the path of a checkpoint. Any name for a model of "
        "`local-dir:` or `hf-hub:`, whose weights lie with it.",
    )
    batch: int = Field(default=64, ge=1, le=100_000, description=BATCH)

    has_text_tower: ClassVar[bool] = True
    of_open_clip: ClassVar[bool] = True

    @property
    def architecture(self) -> Mapping[str, Any] | None:
        return published(self.model)

    def load(self, device: "torch.device") -> "Encoder":
        from clipshift.similarity.encoder import Encoder

        model, preprocess = self._model(device)
        return Encoder(preprocess, model.encode_image, self.batch, device, model.visual)

    def clip(self, device: "torch.device") -> "Clip":
        import open_clip

        from clipshift.similarity.open_clip_models import Clip

        return Clip(*self._model(device), open_clip.get_tokenizer(self.model), device)

    def _model(self, device: "torch.device") -> tuple[Any, Any]:
        """Model and preprocessing."""
        import open_clip

        from clipshift.similarity.open_clip_models import read_by_ours

        known = open_clip.list_models()
        if self.model not in known and not self.model.startswith(("local-dir:", "hf-hub:")):
            import difflib

            near = difflib.get_close_matches(self.model, known, n=3)
            raise ClipshiftError(
                f"open_clip has no model {self.model!r}"
                + (f"; did you mean {near}?" if near else "")
            )
        read_by_ours()
        try:
            # Without weights, open_clip would go on with random ones.
            model, _, preprocess = open_clip.create_model_and_transforms(
                self.model, pretrained=self.pretrained, device=device, require_pretrained=True
            )
        except ClipshiftError:
            raise
        except Exception as error:  # its loaders raise nearly every kind of exception
            said = " ".join(str(error).split())
            raise ClipshiftError(
                f"the weights {self.pretrained!r} of {self.model!r} could not be loaded: "
                f"{said:.300}. Name a tag of open_clip.list_pretrained(), or the path of a "
                "checkpoint of this very model"
            ) from error
        return model.eval(), preprocess
