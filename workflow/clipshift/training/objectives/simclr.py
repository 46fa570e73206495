"""The objective `simclr` (Chen et al. 2020)."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from clipshift.study.config.objective_base import Vision, objective
from clipshift.study.config.trainings import Training
from clipshift.training.objectives import SELECTS

if TYPE_CHECKING:
    from torch import Tensor, nn


@objective("simclr")
class SimCLR(Vision):
    """The same vision tower, two views of each image, no text and no label."""

    objective: Literal["simclr"] = Field(description=SELECTS)
    temperature: float = Field(default=0.1, gt=0, le=100, description="Of NT-Xent.")
    projection: int = Field(default=128, ge=2, le=100_000, description="Width of its output.")
    crop: float = Field(default=0.08, gt=0, le=1, description="Least area of a view's crop.")

    views = 2
    separable = False
    earlier = True
    inert: ClassVar[Mapping[str, str]] = {
        **Vision.inert,
        "epoch_sets": "its models have no layer for classes and no text tower",
    }
    replaces: ClassVar[Mapping[str, str]] = {"augmentation": "its views are its own (`crop`)"}

    def head(self, width: int, classes: int) -> "nn.Module":
        from torch import nn

        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.projection))

    def view(self, training: Training, visual: Any) -> Callable[[Any], Any]:
        """Two of the augmentations of Chen et al. 2020, appendix A, by torchvision."""
        import open_clip
        import torch
        from torchvision import transforms

        side, mean, std = visual.image_size, visual.image_mean, visual.image_std
        size = side if isinstance(side, int) else side[0]
        one = transforms.Compose(
            [
                transforms.RandomResizedCrop(size, scale=(self.crop, 1.0), antialias=True),
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
        return lambda image: torch.stack([one(image), one(image)])

    def loss(self, output: "Tensor", targets: "Tensor") -> "Tensor":
        """NT-Xent; the candidates are the views of all processes."""
        import torch

        from clipshift.training.nt_xent import nt_xent

        first, second = output.float().chunk(2)
        if torch.distributed.is_initialized():
            from torch.distributed.nn.functional import all_gather

            first, second = (torch.cat(all_gather(part)) for part in (first, second))  # type: ignore[no-untyped-call]
        return nt_xent(first, second, self.temperature)
