"""Encoders of the kind `timm`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from clipshift.core.errors import ClipshiftError
from clipshift.similarity.encoders import BATCH, SELECTS, WEIGHTS, weights_file
from clipshift.study.config.encoder_base import EncoderBlock, encoder
from clipshift.study.config.numbers import PX

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder


@encoder("timm")
class TimmEncoder(EncoderBlock):
    """A model of timm, e.g. VGG19 or DINOv2: its output, or statistics of its feature maps."""

    kind: Literal["timm"] = Field(description=SELECTS)
    model: str = Field(
        pattern=r"^[A-Za-z0-9_.]+$", description="timm model name, e.g. vit_giant_patch14_dinov2."
    )
    weights: str = Field(
        pattern=r"\S",
        description=f"{WEIGHTS} timm's file, or that of the authors where timm knows its names.",
    )
    features: Literal["output", "pooled", "gram"] = Field(
        default="output",
        description="`output`: what the model gives without its classifier; `pooled`: means over "
        "the positions of the feature maps of `layers`; `gram`: their Gram matrices (Gatys et al. "
        "2016). Each layer has the same weight.",
    )
    layers: list[str] = Field(
        default=[],
        description="Modules whose outputs `pooled` and `gram` read, e.g. `features.28`.",
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Of `gram`: project the matrices to so many dimensions by feature hashing "
        "(Weinberger et al. 2009), which keeps inner products up to 1/sqrt(dimensions). The five "
        "of VGG19 have 305,888 (default: all).",
    )
    px: int | None = Field(
        default=None, ge=8, le=PX, description="Input side, pixels (default: the model's)."
    )
    crop: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Input side over that of the resized image (default: the model's).",
    )
    batch: int = Field(default=64, ge=1, le=100_000, description=BATCH)

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> "TimmEncoder":
        if (self.features == "output") == bool(self.layers):
            raise ValueError("`layers` goes with `features: pooled` and `gram`, which need it")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"a layer is named twice: {self.layers}")
        if self.dimensions is not None and self.features != "gram":
            raise ValueError("`dimensions` is of `features: gram` only")
        return self

    def load(self, device: "torch.device") -> "Encoder":
        from timm import data

        from clipshift.similarity.encoder import Encoder
        from clipshift.similarity.feature_maps import Statistics

        timm_data: Any = data  # partly typed
        net = self._net().eval().to(device)
        side = {"input_size": (3, self.px, self.px)} if self.px else {}
        crop = {"crop_pct": self.crop} if self.crop else {}
        settings = timm_data.resolve_data_config(side | crop, model=net)
        preprocess = timm_data.create_transform(**settings)
        if self.features == "output":
            return Encoder(preprocess, net, self.batch, device, net)
        read = Statistics(net, self.layers, self.features, self.dimensions)
        return Encoder(preprocess, read, self.batch, device, net)

    def _net(self) -> Any:
        """The model with its weights, without its classifier."""
        import timm
        from timm.models import _builder

        from clipshift.core.weights import read_weights

        if not timm.is_model(self.model):
            import difflib

            near = difflib.get_close_matches(self.model, timm.list_models(), n=3)
            raise ClipshiftError(
                f"timm has no model {self.model!r}" + (f"; did you mean {near}?" if near else "")
            )
        known: Any = timm.get_pretrained_cfg(self.model)
        hub = f"https://huggingface.co/{known.hf_hub_id}" if known and known.hf_hub_id else None
        path = weights_file(self.weights, (known and known.url) or hub)
        # timm knows the names that weights have at their authors', but has a reader of its own.
        vars(_builder)["load_state_dict"] = lambda file: read_weights(Path(file))
        keys: dict[str, Any] = {"pretrained_cfg_overlay": {"file": str(path)}}
        if self.px and known and known.fixed_input_size:
            keys["img_size"] = self.px
        try:
            # With its classifier: without it, timm would let any weight be missing.
            net: Any = timm.create_model(self.model, pretrained=True, **keys)
        except ClipshiftError:
            raise
        except Exception as error:  # it raises nearly every kind of exception
            said = " ".join(str(error).split())
            raise ClipshiftError(
                f"{path} does not fit timm's {self.model!r}: {said:.300}. Use weights of the same "
                "architecture"
            ) from None
        net.reset_classifier(0)
        return net
