"""The objective `clip`."""

from typing import Literal

from pydantic import Field

from clipshift.study.config.data import Block
from clipshift.study.config.objective_base import Controlled, RunOf, objective
from clipshift.training.objectives import SELECTS


class TextTower(Block):
    """A text tower that begins with the weights of another run."""

    start: RunOf = Field(description="The run whose text tower it is.")
    frozen: bool = Field(default=False, description="Keep the weights (open_clip's `--lock-text`).")


@objective("clip")
class Clip(Controlled):
    """Images against their captions, by open_clip's trainer."""

    objective: Literal["clip"] = Field(description=SELECTS)
    text: TextTower | None = Field(
        default=None, description="Start of the text tower (default: random)."
    )

    trainer = "clip"
    needs = "captions"
    protocol = "prompts"
    earlier = True

    @property
    def initial(self) -> RunOf | None:
        return self.text.start if self.text else None
