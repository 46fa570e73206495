"""Configuration of effective robustness: how lines are fitted, and those of published models."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import Name
from clipshift.study.config.numbers import DRAWS, Seed

Space = Literal["logit", "probit", "linear"]
ShiftName = Literal["v2", "sketch", "r", "a", "objectnet", "average"]
# Tables of this name are those of published models.
RESERVED = ("testbed", "fits")


class Baseline(Block):
    """Models of the testbed to which a line is fitted."""

    types: list[str] = Field(min_length=1, description="Types of models that belong to it.")
    without: list[str] = Field(
        default=["aws", "batch64", "subsample"],
        description="Models are left out whose names hold one of these words.",
    )
    min_id: float = Field(
        default=0, ge=0, lt=1, description="Smallest in-distribution accuracy, a fraction."
    )
    min_id_of: dict[ShiftName, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={}, description="The same for single shifts, on their own axis."
    )


class Fitting(Block):
    """How a line is fitted, and its bootstrap drawn."""

    space: Space = Field(default="logit", description="Space in which accuracies are lines.")
    level: float = Field(default=0.95, gt=0, lt=1, description="Level of all intervals.")
    draws: int = Field(default=1000, ge=100, le=DRAWS, description="Bootstrap draws over models.")
    seed: Seed = Field(default=0, description="Seed of the bootstrap.")


class Robustness(Fitting):
    """Effective robustness of published models (docs/effective-robustness.md)."""

    baselines: dict[Name, Baseline] = Field(
        default={
            "standard": Baseline(types=["STANDARD"], min_id=0.55, min_id_of={"r": 0.75, "a": 0.75}),
            "low": Baseline(types=["STANDARD", "LOW_ACCURACY_CNN"]),
        },
        min_length=1,
        description="Named sets of baseline models; the table of fits reports all of them.",
    )
    baseline: Name = Field(
        default="standard", description="The set whose line the table of all models uses."
    )
    extended: Name = Field(
        default="low",
        description="The set whose line is drawn where models of 20 to 60 % are compared with it.",
    )
    pivot: dict[ShiftName, str] = Field(
        default={"a": "resnet50"},
        description="Shift -> model at whose in-distribution accuracy its line is in two pieces; "
        "the model itself is left out of both.",
    )

    @model_validator(mode="after")
    def _known(self) -> "Robustness":
        for key in ("baseline", "extended"):
            if (name := getattr(self, key)) not in self.baselines:
                raise ValueError(f"{key}: {name!r} is not one of {sorted(self.baselines)}")
        return self
