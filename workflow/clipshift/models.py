"""open_clip models that a configuration defines: registering, loading, counting."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipshift.errors import ClipshiftError
from clipshift.files import write_json


def register(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Make `config` known to open_clip as `name` (written to `folder/{name}.json`)."""
    import open_clip

    write_json(folder / f"{name}.json", config)
    open_clip.add_model_config(folder / f"{name}.json")


def load(name: str, config: Mapping[str, Any], weights: Path, folder: Path) -> tuple[Any, Any, Any]:
    """Model in evaluation mode, its evaluation preprocessing and its tokenizer.

    Raises:
        ClipshiftError: the weights do not fit the configuration.
    """
    import open_clip

    register(name, config, folder)
    model, _, preprocess = open_clip.create_model_and_transforms(name, load_weights=False)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ClipshiftError(f"{weights} is no model of this configuration: {error}") from error
    return model.eval(), preprocess, open_clip.get_tokenizer(name)
