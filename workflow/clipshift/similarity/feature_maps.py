"""Statistics of a network's feature maps: means over positions, and Gram matrices."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from clipshift.core.errors import ClipshiftError


def pooled(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C): means over positions."""
    return maps.mean((2, 3))


def gram(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C (C + 1) / 2): one half of the symmetric Gram matrices.

    What stands twice in a matrix is multiplied by sqrt(2): inner products are those of matrices.
    """
    flat = maps.flatten(2)  # (B, C, H W)
    matrices = flat @ flat.transpose(1, 2) / flat.shape[2]
    row, column = torch.triu_indices(*matrices.shape[1:], device=maps.device)
    weight = torch.where(row == column, 1.0, 2**0.5)
    return matrices[:, row, column] * weight


class Hashing:
    """Random projection of (B, N) to (B, D): signed sums of N / D coordinates each.

    Inner products of unit vectors are kept up to an error of about 1/sqrt(D). The coordinates of
    every sum, and their signs, follow from N and D alone.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._drawn: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        share = -(-x.shape[1] // self.dimensions)
        padded = torch.nn.functional.pad(x, (0, share * self.dimensions - x.shape[1]))
        if self._drawn is None:
            rng = np.random.default_rng(0)
            order = torch.from_numpy(rng.permutation(padded.shape[1]))
            signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.float32), padded.shape[1]))
            self._drawn = order.to(x.device), signs.to(x.device)
        order, signs = self._drawn
        # Sums of fixed order, where adding up by index would depend on the GPU's timing.
        return (padded * signs)[:, order].reshape(-1, self.dimensions, share).sum(2)


class Statistics:
    """Images -> unit vectors of a statistic of some layers, one layer after the other.

    Raises:
        ClipshiftError: the network has no such layer, or no feature maps (B, C, H, W) come of it.
    """

    def __init__(
        self, net: Any, layers: Sequence[str], kind: Literal["pooled", "gram"],
        dimensions: int | None = None,
    ) -> None:  # fmt: skip
        self.net, self.layers = net, layers
        self.statistic = {"pooled": pooled, "gram": gram}[kind]
        self.project = Hashing(dimensions) if dimensions else None
        self.outputs: dict[str, torch.Tensor] = {}
        modules = dict(net.named_modules())
        for name in layers:
            if name not in modules:
                raise ClipshiftError(
                    f"layers: the model has no {name!r}; it has e.g. {list(modules)[1:6]}"
                )
            modules[name].register_forward_hook(partial(self._keep, name))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, D)."""
        self.outputs.clear()
        self.net.forward_features(pixels)
        if missing := [name for name in self.layers if name not in self.outputs]:
            raise ClipshiftError(f"layers: {missing} come after the feature maps of the model")
        parts = [torch.nn.functional.normalize(self.outputs[n], dim=1) for n in self.layers]
        vectors = torch.cat(parts, dim=1)
        return vectors if self.project is None else self.project(vectors)

    def _keep(self, name: str, _module: Any, _inputs: Any, output: Any) -> None:
        """Of an output at once: the next layer may work in place."""
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise ClipshiftError(
                f"layers: the output of {name!r} is no feature map (B, C, H, W); name a "
                "convolution, an activation or a pooling"
            )
        with torch.autocast(output.device.type, enabled=False):  # sums of squares leave float16
            self.outputs[name] = self.statistic(output.float())
