"""open_clip models that a configuration defines: registering, loading, counting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from clipshift.core.device import pick_device
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json
from clipshift.core.weights import fit, read_weights
from clipshift.similarity.encoder import Encoder


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
    model, _, preprocess = open_clip.create_model_and_transforms(name, load_weights=False)
    fit(model, read_weights(weights), weights)
    device = pick_device()
    return Clip(model.eval().to(device), preprocess, open_clip.get_tokenizer(name), device)


def training_transform(tower: Any) -> Callable[[Image.Image], torch.Tensor]:
    """The `preprocess_train` that open_clip makes with a vision tower of its own."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    transform: Callable[[Image.Image], torch.Tensor] = image_transform_v2(
        PreprocessCfg(**tower.preprocess_cfg), is_train=True
    )
    return transform


def without_projection(encoder: Encoder) -> Encoder:
    """An encoder of open_clip up to the last norm of its tower, from which the projection into the
    space of the texts is taken, in place.

    Raises:
        ClipshiftError: the tower has no projection that can be taken.
    """
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    tower: Any = encoder.tower
    if isinstance(tower, VisionTransformer) and tower.proj is not None:
        tower.proj = None
    elif isinstance(tower, TimmModel) and {"proj", "mlp"} & set(tower.head._modules):
        # The trunk ends with its norm and pooling; the head drops out and projects.
        tower.head = torch.nn.Sequential()
    else:
        raise ClipshiftError(
            f"a tower of the kind {type(tower).__name__} has no projection of its own behind its "
            "last norm (open_clip's ResNets project within their attention pooling); use an "
            "encoder with a ViT, or a timm model with `timm_proj`, or `features: embedding`"
        )

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        out = tower(pixels)
        pooled: torch.Tensor = out[0] if isinstance(out, tuple) else out  # else with all tokens
        return pooled

    return replace(encoder, forward=forward)


def text_classifier(clip: Clip, prompts: Sequence[Sequence[str]]) -> torch.Tensor:
    """(D, C): per class the normalised mean of its prompts' normalised embeddings."""
    means = []
    for texts in prompts:
        tokens = clip.tokenizer(list(texts)).to(clip.device)
        means.append(clip.model.encode_text(tokens, normalize=True).mean(0))
    return torch.nn.functional.normalize(torch.stack(means), dim=1).T
