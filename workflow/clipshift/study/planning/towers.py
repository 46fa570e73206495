"""Weights, operations and activations of open_clip's towers, from a model's configuration.

Activations are what a backward pass needs of one sample, in values: of a block of a transformer the
inputs of both norms, their outputs, queries, keys and values, what attention gives, and both sides
of the MLP's activation; attention itself is computed again (torch's fused kernels keep no weights).
A tower of timm or of Hugging Face counts as that of ViT-B/32.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Values a token and width that a block keeps, beside the two sides of the MLP.
_KEPT = 8
# open_clip's defaults; and the towers of ViT-B/32, which differ in the patch.
_VISION = {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224, "mlp_ratio": 4.0}
_TEXT = {"layers": 12, "width": 512, "context_length": 77, "vocab_size": 49408, "mlp_ratio": 4.0}
_FOREIGN = {"timm_model_name": {"patch_size": 32}, "hf_model_name": {}}
# Of a convolution its output, and the output of the norm behind it.
_PER_CONVOLUTION = 2


@dataclass(frozen=True)
class Tower:
    """One tower.

    Attributes:
        weights: parameters.
        flops: operations of a forward pass of one sample.
        kept: values that a backward pass needs of one sample.
        inputs: values of the inputs of all blocks; block: values kept of the largest block. Both
            together are what is kept where activations are computed again.
    """

    weights: float
    flops: float
    kept: float
    inputs: float
    block: float


def vision(model: Mapping[str, Any]) -> Tower:
    """The vision tower of an open_clip model configuration."""
    c = _settings(_VISION, model["vision_cfg"])
    if isinstance(c["layers"], list):
        return _resnet(c, model["embed_dim"])
    width, patch = c["width"], c["patch_size"]
    tokens = (c["image_size"] // patch) ** 2 + 1
    stem = 3 * patch**2 * width
    blocks = _transformer(width, c["layers"], tokens, c["mlp_ratio"])
    return Tower(
        blocks.weights + stem + width * (tokens + model["embed_dim"]),
        blocks.flops + 2 * stem * (tokens - 1),
        blocks.kept,
        blocks.inputs,
        blocks.block,
    )


def text(model: Mapping[str, Any]) -> Tower:
    """The text tower of an open_clip model configuration."""
    c = _settings(_TEXT, model["text_cfg"])
    width, tokens = c["width"], c["context_length"]
    blocks = _transformer(width, c["layers"], tokens, c["mlp_ratio"])
    listed = width * (c["vocab_size"] + tokens + model["embed_dim"])
    return Tower(blocks.weights + listed, blocks.flops, blocks.kept, blocks.inputs, blocks.block)


def _settings(default: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    foreign = next((own for name, own in _FOREIGN.items() if given.get(name)), None)
    c = default | (dict(given) if foreign is None else foreign)
    if isinstance(c.get("image_size"), list):
        c["image_size"] = max(c["image_size"])
    return c


def _transformer(width: int, layers: int, tokens: int, ratio: float) -> Tower:
    weights = layers * (4 + 2 * ratio) * width**2
    attention = layers * 4 * tokens**2 * width
    block = (_KEPT + 2 * ratio) * tokens * width
    inputs = layers * tokens * width
    return Tower(weights, 2 * weights * tokens + attention, layers * block, inputs, block)


def _resnet(c: Mapping[str, Any], out: int) -> Tower:
    """OpenAI's ResNet: three convolutions first, attention in place of the last pooling."""
    width, side = c["width"], c["image_size"] // 2
    # Inputs, outputs, kernel, and side of the output.
    half = width // 2
    stem = [(3, half, 3, side), (half, half, 3, side), (half, width, 3, side)]
    blocks = [stem]
    side //= 2
    channels = width
    for stage, count in enumerate(c["layers"]):
        planes = width * 2**stage
        side = side // 2 if stage else side
        for number in range(count):
            # The stride is a pooling between the second and the third convolution.
            first = 2 * side if stage and not number else side
            block = [(channels, planes, 1, first), (planes, planes, 3, first)]
            block += [(planes, 4 * planes, 1, side)]
            block += [(channels, 4 * planes, 1, side)] * (not number)
            blocks.append(block)
            channels = 4 * planes
    kept = [_PER_CONVOLUTION * sum(o * s * s for _, o, _, s in block) for block in blocks]
    layers = [(i * o * k * k, s * s) for block in blocks for i, o, k, s in block]
    tokens = side**2 + 1
    pooled = channels * (3 * channels + out)  # only the mean asks
    flops = 2 * sum(w * area for w, area in layers) + 2 * tokens * 2 * channels**2
    weights = sum(w for w, _ in layers) + pooled + tokens * channels
    inputs = sum(o * s * s for _, o, _, s in (block[-1] for block in blocks))
    return Tower(weights, flops, sum(kept), inputs, max(kept))


@cache
def published(name: str) -> Mapping[str, Any] | None:
    """The configuration of a model that open_clip knows by name, which takes seconds to import."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None or "/" in name:
        return None
    file = Path(spec.origin).with_name("model_configs") / f"{name}.json"
    found: Mapping[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
    return found
