"""Bytes that a network takes on a GPU: weights, gradients, moments, activations.

An estimate from the configuration. Weights are right to a thousandth, activations to a twentieth
(measured on open_clip's ViT-B/32 and RN50); what torch itself takes is assumed.
"""

from collections.abc import Mapping
from typing import Any

from clipshift.study.config.objective_base import Controlled
from clipshift.study.config.trainings import Training
from clipshift.study.planning import towers

# CUDA's context and the work spaces of its libraries; and what is lost between blocks of memory.
_OWN, _GAPS = 2e9, 1.1
# A weight, its gradient and the optimiser's moments, in float32.
ADAM, SGD = 16, 12
# Of a similarity of an image and a text: the product, its float32 copy and its gradient.
_PER_PAIR = 10


def _value(precision: str) -> int:
    return 4 if precision == "fp32" else 2


def training(model: Mapping[str, Any], block: Training, spec: Controlled | None = None) -> float:
    """On each GPU of a training.

    Args:
        spec: of a controlled model.
    """
    texts = spec is None or spec.trainer == "clip"
    used = [towers.vision(model)] + [towers.text(model)] * texts
    rows = block.batch // block.world  # of a process
    views = spec.views if spec else 1
    weight = SGD if getattr(spec, "optimizer", None) == "sgd" else ADAM
    if block.precision == "bf16":  # the model itself is cast
        weight //= 2
    elif block.precision != "fp32":  # and the copies that products read
        weight += 2
    if block.world > 1:  # gradients that are sent
        weight += 4
    if block.grad_checkpointing:
        values = sum(t.inputs for t in used) + max(t.block for t in used)
    else:
        values = sum(t.kept for t in used)
    kept = rows // block.accumulation * views * values * _value(block.precision)
    pairs = 2 * rows * block.batch * (spec is None or spec.needs != "labels")
    return _whole(weight * sum(t.weights for t in used) + kept + _PER_PAIR * pairs)


def tuning(model: Mapping[str, Any], precision: str, images: int) -> float:
    """Of tuning a vision tower by SGD, so many images at a time."""
    tower, value = towers.vision(model), _value(precision)
    weight = SGD + 2 * (value == 2)
    return _whole(weight * tower.weights + images * tower.kept * value)


def forward(model: Mapping[str, Any], precision: str, images: int) -> float:
    """Of a forward pass of a vision tower."""
    tower, value = towers.vision(model), _value(precision)
    return _whole((4 + 2 * (value == 2)) * tower.weights + images * tower.block * value)


def _whole(used: float) -> float:
    return _OWN + _GAPS * used
