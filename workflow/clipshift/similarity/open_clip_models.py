"""open_clip models that a configuration defines: registering, loading, counting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from clipshift.core.device import pick_device
from clipshift.core.files import write_json
from clipshift.core.weights import fit, read_weights


def register(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Make `config` known to open_clip as `name` (written to `folder/{name}.json`)."""
    import open_clip

    write_json(folder / f"{name}.json", config)
    open_clip.add_model_config(folder / f"{name}.json")


def read_by_ours() -> None:
    """Let open_clip read every file of weights by our reader."""
    import open_clip.factory

    def read(path: str, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        return read_weights(Path(path))

    open_clip.factory.load_state_dict = read


@dataclass(frozen=True)
class Clip:
    """A trained model in evaluation mode, its preprocessing and tokenizer, and where it lies."""

    model: Any
    preprocess: Callable[[Image.Image], torch.Tensor]
    tokenizer: Callable[[list[str]], torch.Tensor]
    device: torch.device


def load(name: str, config: Mapping[str, Any], weights: Path, folder: Path) -> Clip:
    """Load a trained model.

    Args:
        folder: where its configuration is written for open_clip to read.

    Raises:
        ClipshiftError: the weights do not fit the configuration.
    """
    import open_clip

    register(name, config, folder)
    model, _, preprocess = open_clip.create_model_and_transforms(
        name, load_weights=False, pretrained_text=False
    )
    fit(model, read_weights(weights), weights)
    device = pick_device()
    return Clip(model.eval().to(device), preprocess, open_clip.get_tokenizer(name), device)


def text_classifier(clip: Clip, prompts: Sequence[Sequence[str]]) -> torch.Tensor:
    """(D, C): per class the normalised mean of its prompts' normalised embeddings."""
    means = []
    for texts in prompts:
        tokens = clip.tokenizer(list(texts)).to(clip.device)
        means.append(clip.model.encode_text(tokens, normalize=True).mean(0))
    return torch.nn.functional.normalize(torch.stack(means), dim=1).T
