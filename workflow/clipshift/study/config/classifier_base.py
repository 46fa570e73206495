"""What a domain classifier is: the base of the blocks in `classifiers.methods`, and their registry.

Layout, costs and the steps ask a classifier these questions, and never which kind it is.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.names import EncoderName
from clipshift.study.config.numbers import POINTS, Scaled
from clipshift.study.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]
    Model = Callable[[Any], np.ndarray]

Domain = Literal["natural", "rendition", "ambiguous"]
Detected = Literal["natural", "rendition"]
# The domains that a detector can be asked for.
DETECTED: tuple[Detected, ...] = ("natural", "rendition")
# In the order of the labels 0, 1, 2.
DOMAINS: tuple[Domain, ...] = ("natural", "rendition", "ambiguous")
Form = Literal["ternary", "one_vs_rest", "density_ratio"]


@dataclass(frozen=True)
class Examples:
    """What a model learns from, or is checked on.

    Attributes:
        x: (N, D) float embeddings, rows L2-normalised; or N encoded images.
        targets: (N,) int, 0 to classes - 1, each class at least once.
    """

    x: Any
    targets: "np.ndarray"
    classes: int


class ClassifierBase(Block):
    """What every domain classifier declares."""

    later = frozenset({"detects"})

    if TYPE_CHECKING:
        kind: str

    encoder: EncoderName = Field(
        description="The encoder whose embeddings it reads, or that it tunes."
    )
    form: Form = Field(
        default="ternary",
        description="`ternary`: one model of three classes; `one_vs_rest`: a binary model per "
        "detected domain; `density_ratio`: a binary model per detected domain, of its images "
        "against the whole labelled population, whose logit estimates the log ratio of densities.",
    )
    detects: Detected | None = Field(
        default=None,
        description="The only domain that it has a binary model for (default: both). It cannot be "
        "the detector of the other.",
    )

    tunes: ClassVar[bool] = False  # It tunes its encoder: it reads images, not embeddings.

    @model_validator(mode="after")
    def _detects_by_a_model(self) -> "ClassifierBase":
        if self.detects and self.form == "ternary":
            raise ValueError(
                "a ternary model detects both domains: leave `detects` out, or give the `form` of "
                "binary models, `one_vs_rest` or `density_ratio`"
            )
        return self

    @property
    def detected(self) -> tuple[Detected, ...]:
        """The domains that it can be the detector of."""
        return (self.detects,) if self.detects else DETECTED

    @property
    def models(self) -> int:
        """Models that it is made of."""
        return 1 if self.form == "ternary" else len(self.detected)

    def refuses(self, encoder: EncoderBlock) -> str | None:
        """Why it cannot use an encoder; None: it can."""
        return None

    @property
    def passes(self) -> int:
        """Passes over the training images."""
        return 1

    @property
    def sampling(self) -> tuple[int | None, bool] | None:
        """Training images at most, and whether balanced; None: it learns from no label."""
        return None

    @abstractmethod
    def fit(self, train: Examples, check: Examples, encoder: EncoderBlock) -> "Arrays":
        """The arrays of one model.

        Args:
            train: none where it learns from no label; check: those of the validation part.
        """

    @abstractmethod
    def model(self, arrays: "Arrays", classes: int, encoder: EncoderBlock) -> "Model":
        """A function of embeddings (N, D) float64, or of images: (N, K) float64 raw logits."""


class Trained(ClassifierBase):
    """What every classifier that learns from the labels declares."""

    size: Annotated[int | None, Scaled("labelled")] = Field(
        default=None, ge=3, le=POINTS, description="Training images at most, by a seeded hash."
    )
    balanced: bool = Field(
        default=False, description="As many training images of each label as of the rarest."
    )

    @property
    def sampling(self) -> tuple[int | None, bool]:
        return self.size, self.balanced


classifier: Registry[type[ClassifierBase]] = Registry(
    "clipshift.classifiers.methods", ("linear", "centroid", "knn", "prompts", "finetune")
)
