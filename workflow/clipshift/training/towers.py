"""The models of our own loop: open_clip's vision tower with a head of the objective."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipshift.similarity.open_clip_models import register
from clipshift.study.config.objective_base import Vision
from clipshift.study.config.trainings import Training


class TowerWithHead(nn.Module):
    """(B, 3, H, W) images -> (B, K): the vision tower's features through a head."""

    def __init__(self, visual: nn.Module, head: nn.Module):
        super().__init__()
        self.visual = visual
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.visual(images))
        return output


def build(
    training: Training, spec: Vision, classes: int, seed: int, folder: Path, precision: str = "fp32"
) -> TowerWithHead:
    """A model with seeded random weights.

    Args:
        classes: of the training data.
        folder: where open_clip's configuration is written.
        precision: of the weights; `bf16`: those of convolutions and products, as open_clip has it.
    """
    import open_clip
    from open_clip.model import convert_weights_to_lp

    register("clipshift-tower", training.model, folder)
    torch.manual_seed(seed)
    clip = open_clip.create_model("clipshift-tower", precision=precision, load_weights=False)
    head = spec.head(int(training.model["embed_dim"]), classes)
    if precision == "bf16":
        convert_weights_to_lp(head, torch.bfloat16)
    return TowerWithHead(clip.visual, head)


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: as in open_clip, no decay for biases and norms."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2]
    decayed = [p for n, p in named if p.ndim >= 2]
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]
