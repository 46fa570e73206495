"""Models that begin with a tower of another run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError

# Environment variable by which a training names the weights of its first text tower to the trainer.
TEXT_WEIGHTS = "CLIPSHIFT_TEXT_WEIGHTS"

VISUAL = "visual."
# Not of the text tower: the vision tower, and what both share.
_NOT_TEXT = (VISUAL, "logit_scale", "logit_bias")


def start_vision(model: Any, weights: Path) -> None:
    """Load the vision tower of another run into a model with one (`model.visual`).

    Raises:
        ClipshiftError: it has another shape.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    mine = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
    _load(model.visual, mine, weights)


def start_text(model: torch.nn.Module, weights: Path) -> None:
    """Load the text tower of another run into a CLIP model.

    Raises:
        ClipshiftError: it has another shape, or the run has no text tower.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    mine = {k: v for k, v in state.items() if not k.startswith(_NOT_TEXT)}
    kept = {k: v for k, v in model.state_dict().items() if k.startswith(_NOT_TEXT)}
    _load(model, kept | mine, weights)


def _load(module: torch.nn.Module, state: Mapping[str, torch.Tensor], weights: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ClipshiftError(
            f"the tower of {weights} does not fit this model; start from a run of the same "
            f"architecture: {error}"
        ) from error
