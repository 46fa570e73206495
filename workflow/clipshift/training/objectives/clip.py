"""The objective `clip`."""

from typing import Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.objective_base import Controlled, RunOf, objective
from clipshift.training.objectives import SELECTS


class TextTower(Block):
    """A text tower that begins with the weights of another run, or of a file."""

    later = frozenset({"weights"})

    start: RunOf | None = Field(default=None, description="The run whose text tower it is.")
    weights: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `start`: a checkpoint of open_clip whose text tower it is, such as "
        "OpenAI's (a relative path is below the key `data`). The model must have the same tower: "
        "of OpenAI's, `quick_gelu: true`. Another file trains again.",
    )
    frozen: bool = Field(default=False, description="Keep the weights (open_clip's `--lock-text`).")

    @model_validator(mode="after")
    def _has_one_origin(self) -> "TextTower":
        if (self.start is None) == (self.weights is None):
            raise ValueError("`text` begins with the weights of a run (`start`) or of a file "
                             "(`weights`)")  # fmt: skip
        return self


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

    @property
    def given(self) -> str | None:
        return self.text.weights if self.text else None
