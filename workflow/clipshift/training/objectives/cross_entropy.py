"""The objective `cross_entropy`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from clipshift.study.config.objective_base import RunOf, Vision, objective
from clipshift.study.config.trainings import Training
from clipshift.training.objectives import SELECTS

if TYPE_CHECKING:
    from torch import Tensor, nn


@objective("cross_entropy")
class CrossEntropy(Vision):
    """The same vision tower and a linear layer, on labels."""

    objective: Literal["cross_entropy"] = Field(description=SELECTS)
    start: RunOf | None = Field(
        default=None,
        description="The run whose vision tower it starts from (default: random). A `simclr` run "
        "makes it SimCLR, then cross-entropy on labels.",
    )

    needs = "labels"
    protocol = "layer"
    earlier = True

    @property
    def initial(self) -> RunOf | None:
        return self.start

    def head(self, width: int, classes: int) -> "nn.Module":
        from torch import nn

        return nn.Linear(width, classes)

    def view(self, training: Training, visual: Any) -> Callable[[Any], Any]:
        """open_clip's training view."""
        import open_clip

        view: Callable[[Any], Any] = open_clip.image_transform(
            visual.image_size, is_train=True, mean=visual.image_mean, std=visual.image_std,
            aug_cfg=dict(training.augmentation),
        )  # fmt: skip
        return view

    def loss(self, output: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn import functional

        return functional.cross_entropy(output.float(), targets)
