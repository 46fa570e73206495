"""What an image encoder is: the base of the blocks in `similarity.encoders`, and their registry.

Layout, costs and definitions ask an encoder these questions, and never which kind it is.
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from clipshift.study.config.data import Block
from clipshift.study.registry import Registry


class Trained(NamedTuple):
    """A training of the study."""

    split: str
    model: str
    seed: int

    @property
    def run(self) -> str:
        return f"{self.split}-{self.model}-s{self.seed}"


class EncoderBlock(Block):
    """An image encoder, as the configuration describes it."""

    if TYPE_CHECKING:
        kind: str

    has_text_tower: ClassVar[bool] = False  # `clip` has one.
    describes_style: ClassVar[bool] = False  # Its vectors are meant to describe style alone.
    of_open_clip: ClassVar[bool] = False  # Its tower is a vision tower of open_clip.

    later = frozenset({"precision"})

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Precision of the products of the forward pass of embeddings (torch's "
        "autocast). Another one gives other embeddings: all are made anew.",
    )

    @property
    def architecture(self) -> Mapping[str, Any] | None:
        """open_clip's configuration of its model, for the cost model; None: not known before."""
        return None

    @property
    def trained(self) -> Trained | None:
        """The training of this study whose weights it has; None: weights from elsewhere."""
        return None

    @property
    def vectors(self) -> dict[str, str] | None:
        """Data set -> folder of embeddings that the user has; None: they are computed."""
        return None

    def only(self, datasets: Collection[str]) -> Self:
        """The block without what is said of other data sets."""
        return self

    @abstractmethod
    def load(self, device: Any) -> Any:
        """The `similarity.encoder.Encoder` on a `torch.device`.

        Raises:
            ClipshiftError: the model or its weights are unknown.
        """

    def clip(self, device: Any) -> Any:
        """The whole model with its text tower: a `similarity.open_clip_models.Clip`."""
        raise NotImplementedError(f"an encoder of the kind {self.kind} has no text tower")


encoder: Registry[type[EncoderBlock]] = Registry(
    "clipshift.similarity.encoders",
    ("open_clip", "timm", "csd", "efficientnet_lite0", "run", "folder"),
)
