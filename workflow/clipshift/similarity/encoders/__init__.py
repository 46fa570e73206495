"""Image encoders, one kind a module: a block of the configuration, and how it is loaded.

What a block answers is in `clipshift.study.config.encoder_base`; docs/extending.md adds one.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipshift.core.errors import ClipshiftError

if TYPE_CHECKING:
    from clipshift.similarity.encoder import Encoder
    from clipshift.study.config.encoder_base import EncoderBlock

SELECTS = "Selects this kind of encoder."
BATCH = "Images per forward pass."
WEIGHTS = "The file of the weights (a relative path is below `data` if it begins with `data:`):"


def load(spec: "EncoderBlock", device: str = "auto") -> "Encoder":
    """Load the encoder of an encoder block; the path is the same on CPU and CUDA.

    Raises:
        ClipshiftError: the model or its weights are unknown.
    """
    from clipshift.core.device import autocast, pick_device

    loaded: Encoder = spec.load(pick_device(device))
    forward = autocast(loaded.forward, loaded.device, spec.precision)
    return replace(loaded, forward=forward, precision=spec.precision)


def weights_file(word: str, origin: str | None) -> Path:
    """The file of weights that a block names.

    Args:
        origin: where such a file can be had.

    Raises:
        ClipshiftError: there is none.
    """
    from clipshift.datasets.tar_paths import data_folder, located

    path = located(word, data_folder())
    if not path.is_file():
        where = f" (e.g. from {origin})" if origin else ""
        raise ClipshiftError(f"{path}: no such file of weights; get it{where} and put it there")
    return path
