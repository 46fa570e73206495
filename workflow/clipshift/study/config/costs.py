"""What the cost preview reckons with. Every number is an assumption that a study may replace."""

from typing import Annotated

from pydantic import Field

from clipshift.study.config.data import Block
from clipshift.study.config.names import EncoderName
from clipshift.study.config.numbers import POINTS


def _assumed(default: float, description: str) -> float:
    """A positive constant; its description says what it rests on."""
    value: float = Field(default=default, gt=0, le=1e24, description=description)
    return value


class Costs(Block):
    """Constants of `clipshift plan`. Published ones say where; the others are rules of thumb."""

    picture_bytes: float = _assumed(
        25_000, "Bytes of a stored image with its caption (LAION-400M: 10 TB / 407M)."
    )
    row_bytes: float = _assumed(
        200, "Bytes of a row of a sample table, compressed (URL, caption, hashes). Assumed."
    )
    score_bytes: float = _assumed(
        20, "Bytes of a point's margins for one test set, and of its row in other scores. Assumed."
    )
    dimensions: int = Field(
        default=640,
        ge=1,
        le=100_000,
        description="Dimensions of an embedding (640: ViT-B-16-plus-240).",
    )
    built_samples: int = Field(
        default=1000,
        ge=1,
        le=POINTS,
        description="Samples of a shard of a built pool and of a built set, whose size nobody "
        "knows before. Assumed.",
    )
    embed_per_second: float = _assumed(
        2500,
        "Images embedded per second and A100, bound by decoding and resizing (published for "
        "clip-retrieval with ViT-B/32).",
    )
    image_flops: dict[EncoderName, Annotated[float, Field(gt=0, le=1e24)]] = Field(
        default={},
        description="Encoder -> operations of a forward pass of one image, where its model is none "
        "of open_clip's own towers. Without it, preparing images decides (for a tower of timm "
        "within open_clip: that of ViT-B/32).",
    )
    gpu_flops: float = _assumed(
        3.12e14, "Operations per second at the GPU's peak in float16 and bfloat16 (an A100's)."
    )
    gpu_flops_tf32: float = _assumed(1.56e14, "The same in TF32: trainings of open_clip in `fp32`.")
    gpu_flops_fp32: float = _assumed(
        1.95e13,
        "The same in float32, without tensor cores: encoders and detectors in `fp32`.",
    )
    gpu_bytes: float = _assumed(8e10, "Memory of a GPU (an A100 of 80 GB).")
    cpu_flops: float = _assumed(
        5e10, "Operations per second of a core, for trainings without GPUs. Assumed."
    )
    encoder_share: float = _assumed(0.4, "Share of that peak that a network reaches. Assumed.")
    fp32_share: float = _assumed(
        0.7, "The same of the float32 peak, which more of a network reaches. Assumed."
    )
    similarity_share: float = _assumed(
        0.6,
        "Share of the float16 peak that products of embeddings reach, those of the fit of clusters "
        "among them. Assumed: no timing of an exact scan of this size is published. 407M x 166,963 "
        "= 6.8e13 pairs. (Measured on a CPU: 1.7e8 pairs a second and core at 512 dimensions.)",
    )
    cluster_spread: float = _assumed(
        1.2,
        "Pairs within clusters over pairs within clusters of equal size (SemDeDup: 4.6e12 pairs "
        "for 440M points in 50,000 clusters).",
    )
    kept_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of the pool in splits whose size is not known before (they depend on "
        "de-duplication and thresholds).",
    )
    train_samples_per_gpu_hour: float = _assumed(
        2.83e6,
        "Samples that ViT-B/32 sees per A100-hour in `amp`: 32 x 407M samples in 4,600 A100-hours "
        "(published for OpenCLIP on LAION-400M). Other models by the ratio of operations.",
    )
    cpu_rows_per_second: float = _assumed(
        200_000, "Rows of a table that a core reads, joins, sorts and writes per second. Assumed."
    )
    captions_per_second: float = _assumed(
        5000,
        "Captions that a core reads, searches for the names of a thousand classes and writes per "
        "second (measured: 5,900 texts of 230 letters searched, on one core of a laptop).",
    )
    cpu_pictures_per_second: float = _assumed(
        400, "Images that a core decodes, copies or hashes per second. Assumed."
    )
    disk_bytes_per_second: float = _assumed(
        5e8, "Bytes per second that one job reads or writes on a shared file system. Assumed."
    )
    small_job_seconds: float = _assumed(
        30, "Every job's start, and the whole of jobs that are not listed. Assumed."
    )
    calibration: dict[str, Annotated[float, Field(gt=0, le=1e9)]] = Field(
        default={},
        description="Rule -> factor on its planned time, as `clipshift plan --compare` says.",
    )
    margin: float = Field(
        default=2.0,
        ge=1,
        le=1000,
        description="Limit of a job's time over its planned time, for what jobs ask a cluster for.",
    )
    memory_margin: float = Field(
        default=1.25, ge=1, le=1000, description="The same of memory, where data decide it."
    )
    least_minutes: int = Field(
        default=60, ge=1, le=1_000_000, description="The least limit of a job's time."
    )
    cores_per_gpu: int = Field(
        default=12,
        ge=1,
        le=10_000,
        description="Cores that a GPU job holds per GPU (`profiles/slurm`).",
    )
    training_sd: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Standard deviation of an accuracy over the seeds of a training, for the seeds "
        "that a difference needs. Assumed; a figure of the kind `seeds` measures it.",
    )
    disagreement: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the test images that the models of two splits answer differently, "
        "one rightly and one wrongly, for the same. Assumed.",
    )
    gpus: int = Field(
        default=64, ge=1, le=1_000_000, description="GPUs at once, for the wall-clock time."
    )
    jobs: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Jobs at once that need no GPU, for the wall-clock time.",
    )
