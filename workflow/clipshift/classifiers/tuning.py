"""Tuning an encoder with a linear readout, by torch: SGD with momentum, steps of the rate.

The fact that matters most is what it never does: look at the test part. The epoch is chosen by the
loss on the validation part.
"""

import copy
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from clipshift.classifiers.methods.finetune import Finetune
from clipshift.core.device import available_cores
from clipshift.datasets.images import decode
from clipshift.similarity.encoder import Encoder
from clipshift.similarity.open_clip_models import training_transform

LOG = logging.getLogger(__name__)

# Encoded, or decoded already.
StoredImage = bytes | Image.Image
# An image and its place among the images -> (3, H, W) float32.
View = Callable[[Image.Image, int], torch.Tensor]
# Held by who seeds torch's generator, of which all threads share one.
_DRAWING = threading.Lock()


@dataclass
class Tuned:
    """An encoder with a readout: images -> (N, K) logits.

    Attributes:
        encoder: its `tower` is tuned in place.
        readout: linear, from the features that the classifier asks for.
    """

    spec: Finetune
    encoder: Encoder
    readout: torch.nn.Linear

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32 -> (B, K) logits."""
        device = self.encoder.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            features = self.encoder.forward(pixels.to(device))
        features = features.float()
        if self.spec.features == "embedding":
            features = torch.nn.functional.normalize(features, dim=1)
        logits: torch.Tensor = self.readout(features)
        return logits

    def logits(self, images: Sequence[StoredImage]) -> np.ndarray:
        """(N, K) float64 logits of images."""
        self.encoder.tower.eval()
        step = self.encoder.batch
        batches = (range(i, min(i + step, len(images))) for i in range(0, len(images), step))
        with torch.inference_mode():
            parts = [
                self.forward(pixels).double().cpu().numpy()
                for _, pixels in _prepared(images, batches, _as_scored(self.encoder))
            ]
        return np.concatenate(parts) if parts else np.zeros((0, self.readout.out_features))

    def state(self) -> dict[str, np.ndarray]:
        """All weights by name."""
        tower = {f"tower.{k}": v for k, v in self.encoder.tower.state_dict().items()}
        readout = {f"readout.{k}": v for k, v in self.readout.state_dict().items()}
        return {k: v.cpu().numpy() for k, v in (tower | readout).items()}


def restore(spec: Finetune, encoder: Encoder, state: dict[str, np.ndarray]) -> Tuned:
    """A tuned encoder from `state()`; `encoder` is changed in place."""
    tensors = {k: torch.from_numpy(v) for k, v in state.items()}
    classes, width = tensors["readout.weight"].shape
    readout = torch.nn.Linear(width, classes).to(encoder.device)
    for module, prefix in ((encoder.tower, "tower."), (readout, "readout.")):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        module.load_state_dict(own)
    return Tuned(spec, encoder, readout)


def tune(
    spec: Finetune, encoder: Encoder, train: tuple[Sequence[bytes], np.ndarray],
    validation: tuple[Sequence[bytes], np.ndarray], classes: int,
) -> Tuned:  # fmt: skip
    """Tune an encoder in place.

    Args:
        train, validation: encoded images, and their classes (N,).
    """
    torch.manual_seed(spec.seed)
    images, targets = train
    width = _width(encoder, images[0])
    tuned = Tuned(spec, encoder, torch.nn.Linear(width, classes).to(encoder.device))
    for parameter in encoder.tower.parameters():
        parameter.requires_grad_(not spec.frozen)
    learned = [*tuned.readout.parameters(), *([] if spec.frozen else encoder.tower.parameters())]
    optimizer = torch.optim.SGD(
        learned, lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, spec.step, spec.gamma)
    best: tuple[float, dict[str, np.ndarray]] | None = None
    for epoch in range(spec.epochs):
        encoder.tower.train(not spec.frozen)
        order = np.random.default_rng([spec.seed, epoch]).permutation(len(images))
        # The last, partial batch is used, too; one of a single image breaks batch normalisation.
        parts = [order[i : i + spec.batch] for i in range(0, len(order), spec.batch)]
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [np.concatenate(parts[-2:])]
        for rows, pixels in _prepared(images, parts, _view(spec, encoder, epoch)):
            wanted = torch.from_numpy(targets[rows]).to(encoder.device)
            optimizer.zero_grad()
            size = -(-len(rows) // spec.accumulation)
            for some, own in zip(torch.split(pixels, size), torch.split(wanted, size), strict=True):
                loss = torch.nn.functional.cross_entropy(tuned.forward(some), own)
                (loss * (len(own) / len(rows))).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        score = _loss(tuned, *validation)
        LOG.info(f"epoch {epoch + 1}: validation loss {score:.4f}")
        if best is None or score < best[0]:
            best = score, copy.deepcopy(tuned.state())
    assert best is not None
    return restore(spec, encoder, best[1])


def _as_scored(encoder: Encoder) -> View:
    return lambda image, _: encoder.preprocess(image)


def _view(spec: Finetune, encoder: Encoder, epoch: int) -> View:
    """What is learned of an image in an epoch: it depends on no other image, batch or thread."""
    if spec.transform == "evaluation":
        return _as_scored(encoder)
    transform = training_transform(encoder.tower)

    def drawn(image: Image.Image, place: int) -> torch.Tensor:
        seed = np.random.SeedSequence([spec.seed, epoch, place]).generate_state(1, np.uint64)
        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(seed[0]))
            return transform(image)

    return drawn


def _loss(tuned: Tuned, images: Sequence[bytes], targets: np.ndarray) -> float:
    logits = torch.from_numpy(tuned.logits(images))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets)))


def _width(encoder: Encoder, image: bytes) -> int:
    encoder.tower.eval()
    with torch.inference_mode():
        pixels = encoder.preprocess(_decode(image))[None].to(encoder.device)
        return int(encoder.forward(pixels).shape[1])


def _decode(image_bytes: StoredImage) -> Image.Image:
    if isinstance(image_bytes, Image.Image):
        return image_bytes
    return decode(image_bytes)


def _prepared(
    images: Sequence[StoredImage],
    batches: Iterable[Sequence[int] | np.ndarray | range],
    view: View,
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Rows of each batch and their pixels (B, 3, H, W), decoded by all cores."""

    def pixels(row: int) -> torch.Tensor:
        return view(_decode(images[row]), row)

    with ThreadPoolExecutor(available_cores()) as pool:
        for rows in batches:
            yield np.asarray(rows), torch.stack(list(pool.map(pixels, map(int, rows))))
