"""Models that begin with a tower of another run."""

from pathlib import Path
from typing import Any

import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.weights import fit, read_weights

# Environment variable by which a training names the weights of its first text tower to the trainer.
TEXT_WEIGHTS = "CLIPSHIFT_TEXT_WEIGHTS"

VISUAL = "visual."
# Not of the text tower: the vision tower, and what both share.
_NOT_TEXT = (VISUAL, "logit_scale", "logit_bias")


def start_vision(model: Any, weights: Path) -> None:
    """Load the vision tower of another run into a model with one (`model.visual`).

    Raises:
        ClipshiftError: it has another shape, or the run has no vision tower.
    """
    state = read_weights(weights)
    mine = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
    _check(mine, "vision", weights)
    fit(model.visual, mine, weights)


def start_text(model: torch.nn.Module, weights: Path) -> None:
    """Load the text tower of another run into a CLIP model.

    Raises:
        ClipshiftError: it has another shape, or the run has no text tower.
    """
    state = read_weights(weights)
    mine = {k: v for k, v in state.items() if not k.startswith(_NOT_TEXT)}
    _check(mine, "text", weights)
    kept = {k: v for k, v in model.state_dict().items() if k.startswith(_NOT_TEXT)}
    fit(model, kept | mine, weights)


def _check(tower: dict[str, torch.Tensor], which: str, weights: Path) -> None:
    if not tower:
        raise ClipshiftError(
            f"{weights} has no {which} tower, so it does not fit this model; start from a run that "
            "has one"
        )
