"""Tuning an encoder on real images, its weights on disk, and zero-shot prompts' arithmetic."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from torchvision.transforms import v2

from clipshift.classifiers import classifier, fit, reductions, score, tuning
from clipshift.classifiers.folds import Labelled
from clipshift.classifiers.methods.finetune import Finetune
from clipshift.classifiers.methods.linear import Linear
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.similarity import encoders
from clipshift.similarity.encoder import Encoder
from clipshift.similarity.encoders.efficientnet_lite0 import EfficientNetLiteEncoder
from clipshift.study.config.classifier_base import DOMAINS, Examples
from clipshift.study.config.domains import Parts
from clipshift.study.config.trainings import AnyTraining, EpochTraining, Training

ENCODER = EfficientNetLiteEncoder(kind="efficientnet_lite0")
SPEC = Finetune(kind="finetune", encoder="e", epochs=30, batch=16, lr=0.5, step=20)


def image(seed: int, flat: bool) -> bytes:
    """An image of one colour, or of noise: what a texture is about."""
    rng = np.random.default_rng(seed)
    pixels = np.full((16, 16, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    if not flat:
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def encoder(*_: object) -> Encoder:
    """A small convolutional tower, the same at every start."""
    torch.manual_seed(1)
    tower = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8, momentum=0.5), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    )  # fmt: skip
    prepare = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return Encoder(prepare, tower, 7, torch.device("cpu"), tower)


IMAGES = [image(i, flat=i % 2 == 0) for i in range(60)]
TARGETS = np.arange(60) % 2


@pytest.mark.parametrize("frozen", [False, True])
def test_tuning_learns_and_keeps_what_is_frozen(frozen: bool) -> None:
    own = encoder()
    before = {k: v.clone() for k, v in own.tower.state_dict().items()}
    spec = SPEC.model_copy(update={"frozen": frozen})
    train, check = (IMAGES[:40], TARGETS[:40]), (IMAGES[40:], TARGETS[40:])
    tuned = tuning.tune(spec, own, train, check, 2)
    assert (tuned.logits(IMAGES[40:]).argmax(1) == TARGETS[40:]).mean() > 0.85
    same = all(torch.equal(before[k], v) for k, v in own.tower.state_dict().items())
    assert same == frozen


def test_tuned_weights_survive_the_disk_and_batches(tmp_path: Path) -> None:
    train, check = (IMAGES[:33], TARGETS[:33]), (IMAGES[33:], TARGETS[33:])
    state = tuning.tune(SPEC, encoder(), train, check, 2).state()
    classifier.save({"natural": state}, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as stored:
        again = {k.removeprefix("natural/"): stored[k] for k in stored.files}
    first, second = (tuning.restore(SPEC, encoder(), s).logits(IMAGES) for s in (state, again))
    assert np.array_equal(first, second)
    one = tuning.restore(SPEC, encoder(), state).logits(IMAGES[:1])
    assert one == pytest.approx(first[:1], abs=1e-5)
    classifier.save({"natural": again}, tmp_path / "n.npz")
    assert (tmp_path / "m.npz").read_bytes() == (tmp_path / "n.npz").read_bytes()


def test_a_tuned_classifier_from_tars_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step's own path: images found by key, undecodable ones counted."""
    monkeypatch.setattr(encoders, "load", encoder)
    samples = [Sample(f"k{i:02d}", {"png": data}) for i, data in enumerate(IMAGES)]
    write_tar(tmp_path / "a.tar", [*samples[::-1], Sample("zz", {"png": b"no image"})])
    spec = classifier.Spec(
        classifier=SPEC.model_copy(update={"form": "one_vs_rest"}),
        encoder={"kind": "efficientnet_lite0"},  # type: ignore[arg-type]
        parts=Parts(),
    )
    parts = np.array(["train"] * 30 + ["validation"] * 15 + ["test"] * 15)
    labelled = Labelled(np.array([s.key for s in samples]), TARGETS.astype(np.int8), parts, {})
    arrays, record = fit.fit(spec, labelled, [], [tmp_path / "a.tar"])
    fitted = classifier.Fitted(spec.classifier, spec.encoder, arrays, record["temperatures"])
    step_counts = StepCounts("s", "s")
    step_counts.went_out = score.write(
        score.score_images(fitted, [tmp_path / "a.tar"], step_counts), tmp_path / "s.parquet"
    )
    step_counts.check()
    assert (step_counts.went_out, step_counts.rejected["undecodable image"]) == (60, 1)
    rows = read_parquet(tmp_path / "s.parquet").sort_by("key").to_pylist()
    guessed = np.array([r["rendition"] > r["natural"] for r in rows])
    assert (guessed == TARGETS).mean() > 0.85
    assert rows[0]["ambiguous"] is None


def test_a_linear_probe_keeps_sklearns_decisions() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5))
    for classes in (2, 3):
        y = np.arange(90) % classes
        x[:, 0] += y
        spec = Linear(kind="linear", encoder="e")
        arrays = spec.fit(Examples(x, y, classes), Examples(x, y, classes), ENCODER)
        ours = spec.model(arrays, classes, ENCODER)(x).argmax(1)
        theirs = LogisticRegression(class_weight="balanced", max_iter=2000).fit(x, y).predict(x)
        assert (ours == theirs).mean() > 0.98


def test_log_odds_are_those_of_the_softmax() -> None:
    z = np.random.default_rng(0).normal(size=(7, 3))
    odds = reductions.log_odds("ternary", {reductions.WHOLE: z})
    chances = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    for i, domain in enumerate(DOMAINS):
        assert odds[domain] == pytest.approx(np.log(chances[:, i] / (1 - chances[:, i])), abs=1e-5)


def test_epochs_become_samples_of_the_split() -> None:
    block = TypeAdapter(AnyTraining).validate_python({"model": {}, "epochs": 3, "batch": 8})
    assert isinstance(block, EpochTraining)
    assert (block.on(50).samples, type(block.on(50))) == (150, Training)
    plain = TypeAdapter(AnyTraining).validate_python({"model": {}, "samples": 9})
    assert type(plain) is Training and "epochs" not in plain.model_dump()


def test_a_labelled_picture_that_cannot_be_decoded_is_left_out(tmp_path: Path) -> None:
    named = [Sample(f"good{i}", {"png": IMAGES[0]}) for i in range(4)]
    named += [Sample("good", {"png": IMAGES[0]}), Sample("bad", {"jpg": b"x"})]
    named += [Sample("worse", {"jpg": IMAGES[0][:50]})]
    write_tar(tmp_path / "a.tar", named)
    tunes = SimpleNamespace(classifier=SimpleNamespace(tunes=True))
    keys = [sample.key for sample in named if sample.key != "worse"]
    left_out = fit.unusable(tunes, keys, [], [tmp_path / "a.tar"])  # type: ignore[arg-type]
    assert left_out == {"bad": "undecodable image"}
    with pytest.raises(ClipshiftError, match=r"2 of 7 labelled .*'bad': .*'worse': undecodable"):
        fit.unusable(tunes, [*keys, "worse"], [], [tmp_path / "a.tar"])  # type: ignore[arg-type]
    assert fit.images_of([tmp_path / "a.tar"], ["good"]) == IMAGES[:1]
    with pytest.raises(ClipshiftError, match=r"1 labelled images, e.g. 'gone'"):
        fit.images_of([tmp_path / "a.tar"], ["gone"])
