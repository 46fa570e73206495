"""Training objectives, one a module: a block of the configuration, and what it adds to a trainer.

What an objective answers is in `clipshift.study.config.objective_base`; docs/extending.md adds one.
"""

from collections.abc import Callable
from typing import Any

from clipshift.study.config.trainings import Training

SELECTS = "Selects this objective."


def training_view(training: Training, visual: Any) -> Callable[[Any], Any]:
    """open_clip's training view of an image: that of CLIP trainings."""
    import open_clip

    view: Callable[[Any], Any] = open_clip.image_transform(
        visual.image_size, is_train=True, mean=visual.image_mean, std=visual.image_std,
        aug_cfg=dict(training.augmentation),
    )  # fmt: skip
    return view
