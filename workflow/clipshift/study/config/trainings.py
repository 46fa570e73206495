"""Configuration of trainings: architecture, length, batch, precision, memory and processes.

The same keys serve every objective (`objective_base`); what has no effect on one is an error.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, model_validator

from clipshift.study.config.data import Block
from clipshift.study.config.names import SetName
from clipshift.study.config.numbers import POINTS, PX, Json, Scaled


class Training(Block):
    """How every split is trained: same model, same samples seen."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"accumulation", "grad_checkpointing", "processes", "sync_batch_norm"}
    )

    model: Annotated[Json, Scaled("model")] = Field(
        description="open_clip model configuration (embed_dim, vision_cfg, text_cfg)."
    )
    samples: Annotated[int, Scaled("seen")] = Field(
        ge=1,
        le=10 * POINTS,
        description="Samples seen by every model, whatever its split; rounded up to whole batches "
        "in each part between two checkpoints. They are counted, and the record holds the number.",
    )
    checkpoints: Annotated[int, Scaled("epochs")] = Field(
        default=4,
        ge=1,
        le=100_000,
        description="Checkpoints on the way; a killed training continues at the last.",
    )
    batch: Annotated[int, Scaled("batch")] = Field(
        default=256,
        ge=2,
        le=10_000_000,
        description="Samples of one step, over all processes and accumulated parts together.",
    )
    accumulation: int = Field(
        default=1,
        ge=1,
        le=100_000,
        description="Parts in which a step's samples pass, one after the other, where memory is "
        "too small for all at once (`--accum-freq`; costs a second forward pass).",
    )
    lr: float = Field(default=1e-3, gt=0, le=100, description="Peak learning rate (AdamW, cosine).")
    warmup: Annotated[int, Scaled("warmup")] = Field(
        default=50, ge=0, le=10**9, description="Warm-up steps."
    )
    weight_decay: float = Field(default=0.1, ge=0, le=100, description="Weight decay.")
    precision: Annotated[Literal["fp32", "amp", "amp_bf16", "bf16"], Scaled("precision")] = Field(
        default="fp32", description="Precision of open_clip's trainer (`amp` needs a GPU)."
    )
    augmentation: Json = Field(default={}, description="Arguments of open_clip's `--aug-cfg`.")
    cache_px: int | None = Field(
        default=None,
        ge=1,
        le=PX,
        description="Store the training copy of the images at this size (faster decoding).",
    )
    read: Literal["copy", "filter"] = Field(
        default="copy",
        description="`copy`: the kept samples are copied into shuffled tars first; `filter`: the "
        "pool's tars are read where they are, and only the kept samples pass.",
    )
    grad_checkpointing: bool = Field(
        default=False,
        description="Compute activations again in the backward pass instead of keeping them.",
    )
    sync_batch_norm: bool = Field(
        default=False,
        description="Batch norm over a step's samples on all GPUs together (on one it is in any "
        "case), where the vision tower is a ResNet. PyTorch has none for several CPU processes.",
    )
    arguments: list[str] = Field(
        default=[], description="Further arguments of open_clip's trainer."
    )
    gpus: Annotated[int, Scaled("gpus")] = Field(
        default=0,
        ge=0,
        le=1024,
        description="GPUs of one training job, on one machine: a process on each.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Processes of a training without GPUs, a core for each.",
    )

    def on(self, points: int) -> "Training":
        """The same training of a split of some size, by the samples that it sees."""
        return self

    @property
    def by_epoch(self) -> tuple[range, list[str]]:
        """Epochs, from 1, after which the model is evaluated, and the sets."""
        return range(0), []

    def of_weights(self) -> "Training":
        """The settings that decide the weights."""
        return self

    @property
    def world(self) -> int:
        """Processes of one training."""
        return self.gpus or self.processes

    @property
    def _has_batch_norm(self) -> bool:
        """Whether the vision tower is open_clip's ResNet, whose `layers` are a list, or timm's."""
        vision = self.model.get("vision_cfg", {})
        return isinstance(vision.get("layers"), list) or "timm_model_name" in vision

    @model_validator(mode="after")
    def _fits(self) -> "Training":
        if self.gpus and self.processes > 1:
            raise ValueError("`processes` is for trainings without GPUs; `gpus` has one on each")
        if self.batch % (self.world * self.accumulation):
            raise ValueError(
                f"batch {self.batch} cannot be shared equally by {self.world} "
                f"{'GPUs' if self.gpus else 'processes'}"
                + f" in {self.accumulation} parts each"
                * (self.accumulation > 1)
            )
        if self.sync_batch_norm and self.processes > 1:
            raise ValueError("`sync_batch_norm` needs GPUs: `processes` on a CPU have none")
        if self.sync_batch_norm and not self._has_batch_norm:
            raise ValueError("`sync_batch_norm`: the model's vision tower has no batch norm")
        if self.read == "filter" and self.cache_px is not None:
            raise ValueError("`read: filter` makes no copy whose images could be `cache_px` wide")
        return self


class EpochTraining(Training):
    """A model that sees every split as often, so a larger split for longer."""

    later = Training.later | {"epoch_sets"}

    samples: Literal[0] = Field(default=0, description="Follows from `epochs`.")
    epochs: Annotated[int, Scaled("epochs")] = Field(
        ge=1, le=1_000_000, description="Passes over what the model trains on, whatever its size."
    )

    epoch_sets: list[SetName] = Field(
        default=[],
        description="Sets on which the model is evaluated after every epoch, too: "
        "`results/eval/{run}-epoch{N}.json`. The weights of each epoch are kept in "
        "`results/models/{run}/epochs/`. More sets later train nothing again.",
    )

    def on(self, points: int) -> Training:
        fields = self.model_dump(exclude={"epochs", "epoch_sets"})
        return Training.model_validate(fields | {"samples": self.epochs * points})

    @property
    def by_epoch(self) -> tuple[range, list[str]]:
        return range(1, self.epochs + 1) if self.epoch_sets else range(0), self.epoch_sets

    def of_weights(self) -> "EpochTraining":
        return self.model_copy(update={"epoch_sets": []})

    @model_validator(mode="after")
    def _epochs_end_with_a_checkpoint(self) -> "EpochTraining":
        if self.epoch_sets and self.checkpoints % self.epochs:
            raise ValueError(
                f"`epoch_sets` needs a checkpoint after every epoch: {self.checkpoints} "
                f"`checkpoints` are no multiple of {self.epochs} `epochs`"
            )
        return self


def _by_epochs(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "epochs" if "epochs" in keys else "samples"


AnyTraining = Annotated[
    Annotated[Training, Tag("samples")] | Annotated[EpochTraining, Tag("epochs")],
    Discriminator(_by_epochs),
]

_ANY: TypeAdapter[Training] = TypeAdapter(AnyTraining)


def changed(base: Training, changes: dict[str, Any]) -> Training:
    """A training with other values of some keys; `samples` and `epochs` replace each other.

    Raises:
        ValueError: a change is no setting.
    """
    values = base.model_dump()
    if "epochs" in changes:
        values.pop("samples")
    elif "samples" in changes:
        values = {k: v for k, v in values.items() if k not in ("epochs", "epoch_sets")}
    return _ANY.validate_python(values | changes)
