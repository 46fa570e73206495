"""The paper's two detectors on a small tower of open_clip: trained, saved, loaded and scored."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.special import logsumexp

from clipshift.classifiers import classifier, fit, score, tuning
from clipshift.classifiers.folds import Labelled
from clipshift.classifiers.methods.finetune import Finetune
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_parquet, write_json
from clipshift.datasets.images import decode
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.similarity import encoders, open_clip_models
from clipshift.similarity.encoder import Encoder
from clipshift.similarity.encoders.efficientnet_lite0 import EfficientNetLiteEncoder
from clipshift.similarity.encoders.open_clip import OpenClipEncoder
from clipshift.study.config.domains import Parts

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 24, "head_width": 12, "patch_size": 8}
RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TIMM = {"timm_model_name": "resnet18", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
WIDTH, DIMENSIONS = 24, 10
LABELS = np.arange(60) % 3
NATURAL = Finetune(kind="finetune", encoder="e", epochs=4, batch=16, lr=0.05, step=3)
RENDITION = NATURAL.model_copy(
    update={
        "form": "one_vs_rest", "detects": "rendition", "features": "tower", "transform": "training"
    }
)  # fmt: skip


def image(number: int, label: int) -> bytes:
    """Noise, one colour, or half of each; wider than the tower, so that crops are drawn."""
    rng = np.random.default_rng(number)
    pixels = np.full((40, 48, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    noise = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    if label != 1:
        pixels[: 40 if label == 0 else 20] = noise[: 40 if label == 0 else 20]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


IMAGES = [image(i, label) for i, label in enumerate(LABELS.tolist())]
SIDES = ((IMAGES[:40], (LABELS[:40] == 1).astype(int)), (IMAGES[40:], (LABELS[40:] == 1) + 0))


def block(folder: Path, name: str, vision: dict[str, Any]) -> OpenClipEncoder:
    """An encoder with random weights, from a file."""
    config = {"embed_dim": DIMENSIONS, "vision_cfg": vision, "text_cfg": TEXT}
    open_clip_models.register(name, config, folder)
    torch.manual_seed(3)
    model = open_clip.create_model(name, load_weights=False)
    torch.save(model.state_dict(), folder / f"{name}.pt")
    return OpenClipEncoder(
        kind="open_clip", model=name, pretrained=str(folder / f"{name}.pt"), batch=7
    )


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> OpenClipEncoder:
    return block(tmp_path_factory.mktemp("vit"), "detector-vit", VIT)


def pooled(tower: Any) -> np.ndarray:
    """(60, WIDTH) the class token behind the tower's last norm, caught on its way."""
    caught: list[torch.Tensor] = []
    tower.ln_post.register_forward_hook(lambda module, args, out: caught.append(out))
    _, _, prepare = open_clip.create_model_and_transforms("detector-vit", load_weights=False)
    with torch.inference_mode():
        tower.eval()(torch.stack([prepare(decode(data)) for data in IMAGES]))
    (tokens,) = caught
    assert tokens.shape == (60, 17, WIDTH)
    return tokens[:, 0].double().numpy()


@pytest.mark.parametrize("own", [NATURAL, RENDITION], ids=["natural", "rendition"])
def test_a_detector_from_images_to_scores(
    vit: OpenClipEncoder, own: Finetune, tmp_path: Path
) -> None:
    samples = [Sample(f"k{i:02d}", {"png": data}) for i, data in enumerate(IMAGES)]
    write_tar(tmp_path / "a.tar", samples)
    parts = np.array(["train"] * 30 + ["validation"] * 15 + ["test"] * 15)
    labelled = Labelled(np.array([s.key for s in samples]), LABELS.astype(np.int8), parts, {})
    spec = classifier.Spec(classifier=own, encoder=vit, parts=Parts())
    arrays, record = fit.fit(spec, labelled, [], [tmp_path / "a.tar"])
    classifier.save(arrays, tmp_path / "model.npz")
    write_json(tmp_path / "record.json", record)
    fitted = classifier.load(spec, tmp_path / "model.npz", tmp_path / "record.json")
    scores = score.score_images(fitted, [tmp_path / "a.tar"], StepCounts("s", "s"))
    score.write(scores, tmp_path / "s.parquet")
    rows = read_parquet(tmp_path / "s.parquet").sort_by("key")

    # The same by hand, from the weights in the file and a tower of open_clip with its projection.
    (name,) = fitted.models
    weights = {k: torch.from_numpy(v) for k, v in fitted.models[name].items()}
    tower = open_clip.create_model("detector-vit", load_weights=False).visual
    stored = {k.removeprefix("tower."): v for k, v in weights.items() if k.startswith("tower.")}
    lacking, unknown = tower.load_state_dict(stored, strict=False)
    assert (lacking, unknown) == (["proj"] if own.features == "tower" else [], [])
    x = pooled(tower)
    if own.features == "embedding":
        x = x @ weights["tower.proj"].double().numpy()
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert x.shape[1] == weights["readout.weight"].shape[1]
    z = x @ weights["readout.weight"].double().numpy().T + weights["readout.bias"].numpy()
    z /= record["temperatures"][name]
    if own.form == "ternary":
        assert z.shape == (60, 3)
        wanted = {"natural": z[:, 0] - logsumexp(z[:, 1:], axis=1),
                  "rendition": z[:, 1] - logsumexp(z[:, [0, 2]], axis=1)}  # fmt: skip
    else:
        assert z.shape == (60, 2) and rows["natural"].null_count == 60
        wanted = {"rendition": z[:, 1] - z[:, 0]}
    for domain, values in wanted.items():
        assert rows[domain].to_numpy() == pytest.approx(values, abs=2e-4)
    donor = torch.load(vit.pretrained)["visual.conv1.weight"]
    assert not torch.equal(stored["conv1.weight"], donor)  # the tower is tuned
    learned = rows["rendition"].to_numpy()
    assert learned[LABELS == 1].mean() > learned[LABELS != 1].mean()


def test_images_are_learned_by_open_clips_training_transform(vit: OpenClipEncoder) -> None:
    _, train, prepare = open_clip.create_model_and_transforms("detector-vit", load_weights=False)
    own = encoders.load(vit)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for place in (5, 6):
        seen = [tuning._view(RENDITION, own, epoch)(picture, place) for epoch in (0, 0, 1)]
        assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
        seed = np.random.SeedSequence([0, 1, place]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed))
        assert torch.equal(seen[2], train(picture))
    before = torch.random.get_rng_state()
    assert torch.equal(tuning._view(NATURAL, own, 1)(picture, 5), prepare(picture))
    tuning._view(RENDITION, own, 1)(picture, 5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_workers_do_not_change_a_byte(
    vit: OpenClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for cores in (1, 7):
        monkeypatch.setattr(tuning, "available_cores", lambda n=cores: n)
        states.append(tuning.tune(RENDITION, RENDITION._loaded(vit), *SIDES, 2).state())
    assert all(np.array_equal(states[0][k], states[1][k]) for k in states[0])
    # Many at once, so that threads would meet in torch's generator.
    view, picture = tuning._view(RENDITION, encoders.load(vit), 0), decode(IMAGES[0])
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda place: view(picture, place), range(500)))
    alone = [view(picture, place) for place in range(500)]
    assert all(map(torch.equal, together, alone))
    plain = RENDITION.model_copy(update={"transform": "evaluation"})
    other = tuning.tune(plain, plain._loaded(vit), *SIDES, 2).state()
    assert not np.array_equal(states[0]["readout.weight"], other["readout.weight"])


def test_parts_of_a_batch_learn_the_same_in_less_memory(vit: OpenClipEncoder) -> None:
    widest: list[int] = []

    def tuned(accumulation: int) -> dict[str, np.ndarray]:
        own = RENDITION._loaded(vit)
        forward = own.forward

        def counted(pixels: torch.Tensor) -> torch.Tensor:
            if own.tower.training:
                widest.append(len(pixels))
            return forward(pixels)

        spied = Encoder(own.preprocess, counted, own.batch, own.device, own.tower)
        spec = RENDITION.model_copy(update={"accumulation": accumulation, "epochs": 1})
        return tuning.tune(spec, spied, *SIDES, 2).state()

    whole = tuned(1)
    assert widest == [16, 16, 8]
    widest.clear()
    parts = tuned(3)
    assert widest == [6, 6, 4, 6, 6, 4, 3, 3, 2]
    for key, values in whole.items():
        assert parts[key] == pytest.approx(values, abs=1e-5)


def test_the_precision_is_that_of_the_encoder(vit: OpenClipEncoder) -> None:
    state = tuning.tune(RENDITION, RENDITION._loaded(vit), *SIDES, 2).state()
    half = RENDITION.model_copy(update={"precision": "bf16"})
    logits = [
        tuning.restore(spec, spec._loaded(vit), state).logits(IMAGES) for spec in (RENDITION, half)
    ]
    assert logits[1] == pytest.approx(logits[0], abs=0.2)
    assert not np.array_equal(logits[0], logits[1])


def test_towers_whose_projection_can_be_taken(tmp_path: Path, vit: OpenClipEncoder) -> None:
    timm = block(tmp_path, "detector-timm", TIMM)
    own = encoders.load(timm)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tower: Any = own.tower
        trunk = tower.trunk(pixels)
        assert own.forward(pixels).shape == (2, DIMENSIONS)
        assert torch.equal(open_clip_models.without_projection(own).forward(pixels), trunk)
    assert trunk.shape == (2, 512)
    for refused in (block(tmp_path, "detector-resnet", RESNET), None):
        resnet = encoders.load(refused or EfficientNetLiteEncoder(kind="efficientnet_lite0"))
        with pytest.raises(ClipshiftError, match="has no projection of its own"):
            open_clip_models.without_projection(resnet)
    twice = open_clip_models.without_projection(encoders.load(vit))
    with pytest.raises(ClipshiftError, match="VisionTransformer has no projection"):
        open_clip_models.without_projection(twice)


def test_keys_without_an_effect_are_refused(vit: OpenClipEncoder) -> None:
    lite = EfficientNetLiteEncoder(kind="efficientnet_lite0")
    assert RENDITION.refuses(vit) is None and NATURAL.refuses(lite) is None
    for key, value in (("features", "tower"), ("transform", "training")):
        own = NATURAL.model_copy(update={key: value})
        assert "need a tower of open_clip" in str(own.refuses(lite))
    with pytest.raises(ValueError, match="a batch of 4 images has no 8 parts"):
        Finetune(kind="finetune", encoder="e", batch=4, accumulation=8)
    with pytest.raises(ValueError, match="a ternary model detects both"):
        Finetune(kind="finetune", encoder="e", detects="rendition")
