"""A loaded image encoder: anything that maps images to vectors; `encoders.load` gives it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from clipshift.core.device import available_cores
from clipshift.core.errors import ClipshiftError


@dataclass(frozen=True)
class Encoder:
    """An image encoder.

    Attributes:
        preprocess: image -> (3, H, W) float32.
        forward: (B, 3, H, W) float32 on `device` -> (B, D) float32, not normalised.
        batch: images per forward pass; fixed, so that equal inputs give equal bytes.
        tower: the module whose parameters `forward` uses, for who tunes them.
        precision: of the products of `forward`.
    """

    preprocess: Callable[[Image.Image], torch.Tensor]
    forward: Callable[[torch.Tensor], torch.Tensor]
    batch: int
    device: torch.device
    tower: torch.nn.Module = field(default_factory=torch.nn.Identity)
    precision: str = "fp32"

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
