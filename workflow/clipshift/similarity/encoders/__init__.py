"""Image encoders, one kind a module: a block of the configuration, and how it is loaded.

What a block answers is in `clipshift.study.config.encoder_base`; docs/extending.md adds one.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipshift.similarity.encoder import Encoder
    from clipshift.study.config.encoder_base import EncoderBlock

SELECTS = "Selects this kind of encoder."
BATCH = "Images per forward pass."


def load(spec: "EncoderBlock", device: str = "auto") -> "Encoder":
    """Load the encoder of an encoder block; the path is the same on CPU and CUDA.

    Raises:
        ClipshiftError: the model or its weights are unknown.
    """
    from clipshift.core.device import autocast, pick_device

    loaded: Encoder = spec.load(pick_device(device))
    forward = autocast(loaded.forward, loaded.device, spec.precision)
    return replace(loaded, forward=forward, precision=spec.precision)
