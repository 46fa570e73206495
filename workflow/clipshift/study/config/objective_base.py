"""What a training objective is: the base of the blocks in `training.objectives`, their registry.

Layout, costs, evaluations and trainers ask an objective these questions, and never which it is.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from clipshift.study.config.data import Block
from clipshift.study.config.names import CorpusName, ModelName, Name
from clipshift.study.config.numbers import Ascending, Json, Scaled, Seed, Share
from clipshift.study.config.trainings import Training
from clipshift.study.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

# Keys that once were those of one block for all objectives. The JSON of the three that it had
# keeps them all, in this order: it is in records, and a parameter of the rules.
_EARLIER: dict[str, Any] = {
    "text": None, "start": None, "optimizer": "adamw", "milestones": [], "temperature": 0.1,
    "projection": 128, "crop": 0.08,
}  # fmt: skip


class RunOf(Block):
    """A trained model, by name."""

    split: Name = Field(description="Its split.")
    model: Name = Field(description="Its model.")
    seed: Seed = Field(description="Its seed.")

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-s{self.seed}"


class Controlled(Block):
    """A model that differs from another in one property of its training."""

    objective: str = Field(description="Selects this objective.")
    base: ModelName = Field(description="Model of `models` whose towers and settings it shares.")
    corpus: CorpusName = Field(description="What it reads: a corpus of `causes.corpora`.")
    changes: Annotated[Json, Scaled("training")] = Field(
        default={},
        description="Other values of keys of the base; `samples` and `epochs` replace each other. "
        "A key without effect on the objective is an error.",
    )

    # Which program trains it: open_clip's on captions, or ours, a vision tower with a head.
    trainer: ClassVar[Literal["clip", "vision"]] = "vision"
    needs: ClassVar[Literal["captions", "labels"] | None] = None  # What its corpus must have.
    views: ClassVar[int] = 1  # Of each image, which the model sees in a step.
    # How its models are evaluated by themselves: by prompts, by their own layer, or not at all.
    protocol: ClassVar[Literal["prompts", "layer"] | None] = None
    # Keys of a training that have no effect on it, with the reason.
    inert: ClassVar[Mapping[str, str]] = {}
    # The same of keys that the base may have all the same: it has its own instead.
    replaces: ClassVar[Mapping[str, str]] = {}
    earlier: ClassVar[bool] = False  # Its JSON has the keys of `_EARLIER`.

    @property
    def initial(self) -> RunOf | None:
        """The run whose weights it starts from."""
        return None

    @property
    def given(self) -> str | None:
        """The user's file whose weights it starts from instead."""
        return None

    def refused(self, training: Training) -> str | None:
        """Why it cannot be trained by some settings, naming the key; None: it can."""
        for key, why in {**self.inert, **self.replaces}.items():
            default = type(training).model_fields.get(key)
            given = default is not None and getattr(training, key) != default.default
            if key in self.changes or (key in self.inert and given):
                return f"`{key}` has no effect on the objective `{self.objective}`: {why}"
        return None

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, keys: Any) -> Any:
        if not isinstance(keys, dict):
            return keys
        if cls.earlier and _EARLIER.keys() <= keys.keys():  # our own JSON
            return {k: v for k, v in keys.items() if k in cls.model_fields or k not in _EARLIER}
        for key in keys.keys() - cls.model_fields.keys():
            if readers := [n for n, b in objective.blocks.items() if key in b.model_fields]:
                raise ValueError(
                    f"`{key}` has no effect on the objective `{keys.get('objective')}`; it is a "
                    f"key of {', '.join(readers)}"
                )
        return keys

    @model_serializer(mode="wrap")
    def _as_recorded(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        own = self._kept(handler(self))
        if info.exclude_defaults or not self.earlier:
            return own
        shared = {k: own[k] for k in Controlled.model_fields if k in own}
        return shared | {k: own.get(k, value) for k, value in _EARLIER.items()} | own


class Vision(Controlled):
    """A vision tower with a head, trained by our loop: what such an objective declares."""

    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="AdamW as open_clip's, or SGD with Nesterov momentum of 0.9."
    )
    milestones: Annotated[list[Share], Ascending] = Field(
        default=[],
        description="Shares of the training after which the learning rate falls to a tenth; `[]`: "
        "cosine, as the base.",
    )

    # Whether the loss of a batch is the mean over its images, whatever else is in the batch.
    separable: ClassVar[bool] = True
    inert: ClassVar[Mapping[str, str]] = {"arguments": "they are options of open_clip's program"}

    @abstractmethod
    def head(self, width: int, classes: int) -> "nn.Module":
        """What follows the tower: (B, width) features to (B, K)."""

    @abstractmethod
    def view(self, training: Training, visual: Any) -> Callable[[Any], Any]:
        """From an image of PIL to what a model sees: (3, H, W), or (`views`, 3, H, W)."""

    @abstractmethod
    def loss(self, output: "Tensor", targets: "Tensor") -> "Tensor":
        """() the loss of a whole batch over all processes.

        Args:
            output: (`views` * B, K), all first views first. targets: (B, classes), equal parts of
                an image's labels.
        """

    def refused(self, training: Training) -> str | None:
        resnet = isinstance(training.model.get("vision_cfg", {}).get("layers"), list)
        if training.grad_checkpointing and resnet:
            return (
                f"`grad_checkpointing` has no effect on the objective `{self.objective}` with this "
                "vision tower: open_clip recomputes the activations of transformers, not of ResNets"
            )
        return super().refused(training)


objective: Registry[type[Controlled]] = Registry(
    "clipshift.training.objectives", ("clip", "cross_entropy", "simclr")
)
