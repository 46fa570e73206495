"""What networks cost: their rates, and their memory on a GPU, by the models of a study."""

from collections.abc import Mapping
from typing import Any

from clipshift.study.config.objective_base import Controlled
from clipshift.study.config.study import Config
from clipshift.study.config.trainings import Training
from clipshift.study.planning import gpu_memory, towers
from clipshift.study.planning.work import Work, kept_share, points, reached, read_share

# Bytes of torch with CUDA and a step's libraries; of a GPU's process that trains, with those beside
# it that read and decode; of a sample in the list of a copy.
TORCH, TRAINER, LISTED = 4e9, 2.56e10, 200
# Operations of a forward pass of ViT-B/32 and its text tower, whose rate is published.
B32_FLOPS = 14_775_853_056


def architecture(cfg: Config, encoder: str) -> Mapping[str, Any] | None:
    """Configuration of an encoder's model; None where it is not known before."""
    block = cfg.encoders[encoder]
    if block.trained and block.trained.model in cfg.models:
        return cfg.models[block.trained.model].model
    return block.architecture


def image_flops(cfg: Config, encoder: str) -> float | None:
    """Operations of an encoder per image; None: not known, and preparing images decides."""
    if encoder in cfg.costs.image_flops:
        return cfg.costs.image_flops[encoder]
    model = architecture(cfg, encoder)
    return towers.vision(model).flops if model else None


def embed_rate(cfg: Config, encoder: str, precision: str | None = None) -> float:
    """Images per second and GPU: the slower of preparing them and of the encoder."""
    c, flops = cfg.costs, image_flops(cfg, encoder)
    if flops is None:
        return c.embed_per_second
    reaches = reached(c, precision or cfg.encoders[encoder].precision)
    return min(c.embed_per_second, reaches / flops)


def forward_memory(cfg: Config, encoder: str) -> float:
    """On the GPU, of embedding or scoring."""
    block, model = cfg.encoders[encoder], architecture(cfg, encoder)
    images = getattr(block, "batch", 1)
    return gpu_memory.forward(model, block.precision, images) if model else 0.0


def trained(
    cfg: Config, split: str, block: Training, spec: Controlled | None = None
) -> Work:  # fmt: skip
    """Of a training: of its towers, by the published rate of ViT-B/32's."""
    c, share, model = cfg.costs, kept_share(cfg, split), block.model
    texts = spec is None or spec.trainer == "clip"
    samples = block.on(round(share * points(cfg, cfg.pool))).samples
    flops = towers.vision(model).flops * (spec.views if spec else 1)
    flops += towers.text(model).flops if texts else 0
    # Forward and back, by about three forward passes; each key has the forward pass done again.
    again = block.grad_checkpointing + (block.accumulation > 1)
    flops *= samples * (3 + again) / 3
    kept, whole = (part * points(cfg, cfg.pool) * c.picture_bytes for part in (share, 1))
    seen = samples * c.picture_bytes
    cpu, gpu, memory = samples / c.cpu_pictures_per_second, 0.0, TORCH
    if block.gpus:
        published = c.gpu_flops if block.precision != "fp32" else c.gpu_flops_tf32
        hourly = c.train_samples_per_gpu_hour * B32_FLOPS * published / c.gpu_flops
        gpu, memory = flops / hourly * 3600, block.gpus * TRAINER
    else:
        cpu += 3 * flops / c.cpu_flops / block.processes
    on_gpu = gpu_memory.training(model, block, spec) if block.gpus else 0.0
    if block.read == "filter":
        # A classifier finds its images by place; CLIP's filter reads what it does not keep, too.
        seen *= read_share(cfg, split) / share if texts else 1
        return Work(cpu, gpu, seen, 0, 0, 0, memory, on_gpu, block.checkpoints)
    memory += share * points(cfg, cfg.pool) * LISTED
    return Work(cpu, gpu, seen + whole, kept, 0, kept, memory, on_gpu, block.checkpoints)
