"""The models of `cross_entropy` and `simclr`: open_clip's vision tower with a head of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from clipshift.similarity.open_clip_models import register
from clipshift.study.config.causes import Controlled
from clipshift.study.config.study import Training

View = Callable[[Image.Image], Any]


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
    training: Training, spec: Controlled, classes: int, seed: int, folder: Path
) -> TowerWithHead:
    """A model with seeded random weights.

    Args:
        classes: of the linear layer, for `cross_entropy`.
        folder: where open_clip's configuration is written.
    """
    import open_clip

    register("clipshift-tower", training.model, folder)
    torch.manual_seed(seed)
    visual = open_clip.create_model("clipshift-tower", load_weights=False).visual
    width = int(training.model["embed_dim"])
    if spec.objective == "cross_entropy":
        return TowerWithHead(visual, nn.Linear(width, classes))
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, spec.projection))
    return TowerWithHead(visual, head)


def view_of(training: Training, spec: Controlled, visual: Any) -> View:
    """What the model sees of an image: open_clip's training view, or two of SimCLR's.

    SimCLR's augmentations are those of Chen et al. 2020, appendix A, by torchvision.
    """
    import open_clip

    side, mean, std = visual.image_size, visual.image_mean, visual.image_std
    if spec.objective == "cross_entropy":
        view: View = open_clip.image_transform(
            side, is_train=True, mean=mean, std=std, aug_cfg=dict(training.augmentation)
        )
        return view
    size = side if isinstance(side, int) else side[0]
    one = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(spec.crop, 1.0), antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            transforms.RandomGrayscale(0.2),
            # About a tenth of the side, and odd, as torchvision wants it.
            transforms.RandomApply([transforms.GaussianBlur(size // 20 * 2 + 1, (0.1, 2.0))]),
            transforms.ToTensor(),
            transforms.Normalize(mean or open_clip.OPENAI_DATASET_MEAN,
                                 std or open_clip.OPENAI_DATASET_STD),
        ]
    )  # fmt: skip
    return lambda image: torch.stack([one(image), one(image)])  # (2, 3, H, W)


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: as in open_clip, no decay for biases and norms."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in named if p.ndim < 2]
    decayed = [p for n, p in named if p.ndim >= 2]
    return [
        {"params": plain, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]
