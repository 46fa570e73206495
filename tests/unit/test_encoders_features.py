"""Encoders of feature spaces: timm's output and statistics of feature maps, style descriptors."""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from clipshift.core.errors import ClipshiftError
from clipshift.similarity import encoders, open_clip_models
from clipshift.similarity.encoders.csd import CsdEncoder
from clipshift.similarity.encoders.timm import TimmEncoder
from clipshift.similarity.feature_maps import Hashing, gram, pooled
from clipshift.study.config.costs import Costs
from clipshift.study.config.load import load
from clipshift.study.planning import networks
from tests.conftest import ROOT

# Convolutions of ResNet-18 in timm and torchvision, with 64 and 128 channels.
LAYERS = ["conv1", "layer2.1.conv1"]


def noise(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


IMAGES = [noise(0), noise(1, (50, 90)), Image.new("RGB", (70, 70), "red")]


def normed(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's ResNet-18 with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


def resnet_encoder(path: Path, **keys: Any) -> TimmEncoder:
    keys = {"kind": "timm", "model": "resnet18.tv_in1k", "px": 64, "batch": 2} | keys
    return TimmEncoder(weights=str(path), **keys)


def maps(path: Path, layer: str) -> np.ndarray:
    """(3, C, H, W) float64 outputs of a layer of torchvision's model, by torchvision's resizing."""
    net = torchvision.models.resnet18(weights=None).eval()
    net.load_state_dict(torch.load(path, weights_only=True))
    prepare = v2.Compose(
        [
            v2.Resize(73),  # 64 / 0.875
            v2.CenterCrop(64),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    found = []
    net.get_submodule(layer).register_forward_hook(lambda _, __, out: found.append(out.clone()))
    with torch.inference_mode():
        net(torch.stack([prepare(image) for image in IMAGES]))
    return found[0].double().numpy()


def test_gram_matrices_are_those_of_the_layers(resnet: Path) -> None:
    """Cosines of our vectors are the means over layers of cosines of whole Gram matrices."""
    spec = resnet_encoder(resnet, features="gram", layers=LAYERS)
    found = encoders.load(spec, "cpu").encode(IMAGES)
    assert found.shape == (3, 64 * 65 // 2 + 128 * 129 // 2)
    cosines = []
    for layer in LAYERS:
        flat = maps(resnet, layer)
        flat = flat.reshape(*flat.shape[:2], -1)
        whole = normed(np.einsum("bcf,bdf->bcd", flat, flat).reshape(3, -1))
        cosines.append(whole @ whole.T)
    assert np.allclose(found @ found.T, np.mean(cosines, axis=0), atol=1e-5)
    assert np.ptp(cosines[0] - cosines[1]) > 0.01  # the layers differ, so the mean is of both


@pytest.mark.parametrize("layer", ["conv1", "layer4"])
def test_pooled_features_are_means_over_positions(resnet: Path, layer: str) -> None:
    """Also of a convolution whose activation works in place."""
    spec = resnet_encoder(resnet, features="pooled", layers=[layer])
    wanted = maps(resnet, layer)
    assert (wanted.min() < 0) == (layer == "conv1")
    found = encoders.load(spec, "cpu").encode(IMAGES)
    assert np.allclose(found, normed(wanted.mean((2, 3))), atol=1e-5)


def test_output_is_the_model_without_its_classifier(tmp_path: Path) -> None:
    """A vision transformer of DINOv2's: the normed class token, at another input size."""
    import timm
    from safetensors.torch import save_file

    name, path = "vit_small_patch14_reg4_dinov2", tmp_path / "w.safetensors"

    torch.manual_seed(0)
    net = timm.create_model(name, img_size=56).eval()
    save_file(net.state_dict(), path)
    spec = TimmEncoder(kind="timm", model=name, weights=str(path), px=56, crop=0.875)
    loaded = encoders.load(spec, "cpu")
    resize = v2.Compose([v2.Resize(64, v2.InterpolationMode.BICUBIC), v2.CenterCrop(56)])
    cut = v2.functional.to_dtype(v2.functional.to_image(resize(IMAGES[0])), scale=True)
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    assert torch.allclose(loaded.preprocess(IMAGES[0]), (cut - mean) / std, atol=1e-5)
    pixels = torch.stack([loaded.preprocess(image) for image in IMAGES])
    with torch.inference_mode():
        wanted = net.forward_features(pixels)[:, 0].double().numpy()
    assert np.allclose(loaded.encode(IMAGES), normed(wanted), atol=1e-5)


def test_weights_in_the_names_of_dinov2(tmp_path: Path) -> None:
    """DINOv2's file has a mask token, and a position for the class token; the result is one."""
    import timm

    torch.manual_seed(0)
    name = "vit_small_patch14_reg4_dinov2"
    own = timm.create_model(name, img_size=56).state_dict()
    own["cls_token"] = torch.randn(1, 1, 384)
    theirs = {("register_tokens" if k == "reg_token" else k): v for k, v in own.items()}
    theirs["cls_token"] = own["cls_token"] - 1
    theirs["pos_embed"] = torch.cat([torch.ones(1, 1, 384), own["pos_embed"]], dim=1)
    theirs["mask_token"] = torch.zeros(1, 384)
    vectors = []
    for state in (own, theirs):
        torch.save(state, tmp_path / "w.pth")
        spec = TimmEncoder(kind="timm", model=name, weights=str(tmp_path / "w.pth"), px=56)
        vectors.append(encoders.load(spec, "cpu").encode(IMAGES))
    assert np.allclose(*vectors, atol=1e-5)


def test_weights_in_the_names_of_torchvision(tmp_path: Path) -> None:
    """VGG's classifier is one of convolutions in timm."""
    torch.manual_seed(0)
    net = torchvision.models.vgg11(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "w.pth")
    spec = TimmEncoder(kind="timm", model="vgg11.tv_in1k", weights=str(tmp_path / "w.pth"))
    loaded = encoders.load(spec, "cpu")
    (tmp_path / "w.pth").unlink()  # half a gigabyte
    pixels = torch.stack([loaded.preprocess(image) for image in IMAGES])
    with torch.inference_mode():
        wanted = net.classifier[:5](net.avgpool(net.features(pixels)).flatten(1)).double().numpy()
    assert pixels.shape == (3, 3, 224, 224)
    assert np.allclose(loaded.encode(IMAGES), normed(wanted), atol=1e-5)


def test_hashing_keeps_inner_products() -> None:
    """Error of cosines of 400 pairs: no bias, and the standard deviation that theory gives."""
    rng = np.random.default_rng(1)
    a = normed(rng.gamma(0.3, size=(400, 5000)))  # heavy tails, as of Gram matrices
    b = normed(a + 0.02 * rng.normal(size=a.shape))
    d = 256
    half = Hashing(d)
    x, y = (half(torch.from_numpy(v).float()).double().numpy() for v in (a, b))
    error = (x * y).sum(1) - (a * b).sum(1)
    assert x.shape == (400, d)
    # One draw of signs: errors of different pairs share it, so the mean's own error is not tiny.
    assert abs(error.mean()) < 2 / d**0.5 and error.std() < 2 / d**0.5
    assert np.linalg.norm(x) ** 2 == pytest.approx(400, rel=0.1)
    same = Hashing(d)(torch.from_numpy(a).float()).double().numpy()
    assert np.array_equal(x, same)


def test_hashing_with_as_many_dimensions_loses_nothing() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 12)))
    y = Hashing(12)(x)
    assert torch.allclose(x @ x.T, y @ y.T)


def test_gram_of_small_maps() -> None:
    one = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # (1, 2, 1, 2)
    assert torch.allclose(gram(one), torch.tensor([[2.5, 2**0.5 * 0.5, 5.0]]))
    assert torch.allclose(pooled(one), torch.tensor([[1.5, 1.0]]))


def test_statistics_in_half_precision(resnet: Path) -> None:
    """Of a convolution in float16, whose sums of squares float16 does not hold."""
    spec = resnet_encoder(resnet, features="gram", layers=["conv1"])
    vectors = {}
    for precision in ("fp32", "fp16"):
        loaded = encoders.load(spec.model_copy(update={"precision": precision}), "cpu")
        loaded.tower.conv1.weight.data *= 1000  # the same up to the norm of the vector
        vectors[precision] = loaded.encode(IMAGES)
    assert np.allclose(*vectors.values(), atol=1e-3)
    assert not np.array_equal(*vectors.values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"features": "gram"}, "`layers` goes with"),
        ({"layers": LAYERS}, "`layers` goes with"),
        ({"features": "pooled", "layers": LAYERS, "dimensions": 8}, "`dimensions` is of"),
        ({"features": "gram", "layers": ["a", "a"]}, "named twice"),
    ],
)
def test_keys_without_an_effect_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        resnet_encoder(Path("w"), **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": ["conv2"]}, r"no 'conv2'; it has e.g. \['conv1'"),
        ({"layers": ["fc"]}, r"\['fc'\] come after the feature maps"),
    ],
)
def test_layers_that_are_no_feature_maps(resnet: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ClipshiftError, match=message):
        encoders.load(resnet_encoder(resnet, features="gram", **keys), "cpu").encode(IMAGES)


def test_tokens_are_no_feature_maps(tmp_path: Path) -> None:
    import timm

    name, path = "vit_tiny_patch16_224", tmp_path / "w.pth"
    torch.save(timm.create_model(name).state_dict(), path)
    spec = TimmEncoder(
        kind="timm", model=name, weights=str(path), features="pooled", layers=["blocks.0"]
    )
    with pytest.raises(ClipshiftError, match=r"output of 'blocks.0' is no feature map"):
        encoders.load(spec, "cpu").encode(IMAGES[:1])


def test_missing_and_foreign_weights(resnet: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"w.pth: no such file.*org/models/resnet18-f37"):
        encoders.load(resnet_encoder(tmp_path / "w.pth"), "cpu")
    with pytest.raises(ClipshiftError, match="timm has no model 'resnet19'; did you mean"):
        encoders.load(resnet_encoder(resnet, model="resnet19"), "cpu")
    with pytest.raises(ClipshiftError, match=r"does not fit timm's 'resnet34': .*Missing key"):
        encoders.load(resnet_encoder(resnet, model="resnet34"), "cpu")
    some = dict(list(torch.load(resnet, weights_only=True).items())[1:])
    torch.save(some, tmp_path / "part.pth")
    with pytest.raises(ClipshiftError, match=r"Missing key.*conv1.weight"):
        encoders.load(resnet_encoder(tmp_path / "part.pth"), "cpu")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ClipshiftError, match=r"text.pth is no readable file of weights"):
        encoders.load(resnet_encoder(tmp_path / "text.pth"), "cpu")


def test_weights_below_the_data_folder(resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSHIFT_DATA", str(resnet.parent))
    spec = resnet_encoder(Path(f"data:{resnet.name}"))
    assert encoders.load(spec, "cpu").encode(IMAGES).shape == (3, 512)


def counted(encoder: Any) -> float:
    """Operations of one image by torch's own counter, without weights and without memory."""
    import open_clip
    import timm

    with torch.device("meta"):
        if encoder.kind == "timm":
            size = {"img_size": encoder.px} if "vit" in encoder.model else {}
            net, px = timm.create_model(encoder.model, num_classes=0, **size), encoder.px or 224
        else:
            net = open_clip.create_model(encoder.model, load_weights=False, device="meta").visual
            px = max(np.ravel(net.image_size))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            net.eval()(torch.empty(1, 3, int(px), int(px)))
    return counter.get_total_flops()


def test_operations_of_the_encoders_of_the_plan() -> None:
    """Those that the configuration states, and those that follow from a model's definition."""
    cfg = load(ROOT / "config/laion400m.yaml")
    for name in ("vgg19_gram", "dinov2_g", "convnext_xxl", "csd", "vit_b32"):
        known = networks.image_flops(cfg, name)
        assert known == pytest.approx(counted(cfg.encoders[name]), rel=0.02), name
    assert cfg.costs.image_flops["vgg19_pooled"] == cfg.costs.image_flops["vgg19_gram"]
    assert all(networks.image_flops(cfg, name) for name in cfg.encoders)
    plain = cfg.model_copy(update={"costs": Costs()})
    assert networks.image_flops(plain, "dinov2_g") is None
    assert networks.embed_rate(cfg, "dinov2_g") < networks.embed_rate(plain, "dinov2_g") / 50


# Style descriptors --------------------------------------------------------------------------------

NANO: dict[str, Any] = {
    "embed_dim": 6,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 8, "patch_size": 8, "head_width": 4},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small image tower of CLIP's."""
    import open_clip

    open_clip_models.register("clipshift-csd", NANO, tmp_path_factory.mktemp("config"))
    torch.manual_seed(0)
    return open_clip.create_model("clipshift-csd", load_weights=False).visual.eval()


def released(tower: Any, **changes: Any) -> dict[str, Any]:
    """A checkpoint as its authors' program writes them."""
    state = {f"module.backbone.{k}": v for k, v in tower.state_dict().items() if k != "proj"}
    generator = torch.Generator().manual_seed(1)
    state["module.last_layer_style"] = torch.randn(8, 6, generator=generator)
    state["module.last_layer_content"] = torch.randn(8, 6, generator=generator)
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": np.float64(0.1)}]}
    return {
        "model_state_dict": state | changes, "opt_bb": optimizer, "opt_proj": optimizer,
        "iter": 7, "args": argparse.Namespace(arch="vit_large", lr=0.1), "fp16_scaler": None,
    }  # fmt: skip


def csd(path: Path) -> CsdEncoder:
    return CsdEncoder(kind="csd", model="clipshift-csd", weights=str(path))


def test_style_descriptors_of_a_released_checkpoint(tower: Any, tmp_path: Path) -> None:
    checkpoint = released(tower)
    torch.save(checkpoint, tmp_path / "csd.bin")
    loaded = encoders.load(csd(tmp_path / "csd.bin"), "cpu")
    features = copy.deepcopy(tower)
    features.proj = None
    pixels = torch.stack([loaded.preprocess(image) for image in IMAGES])
    with torch.inference_mode():
        before = features(pixels).double().numpy()  # (3, 8)
    style = checkpoint["model_state_dict"]["module.last_layer_style"].double().numpy()
    assert np.allclose(loaded.encode(IMAGES), normed(before @ style), atol=1e-5)
    # CLIP's own projection gives other vectors, so the style head is what is read.
    with torch.inference_mode():
        clip = tower(pixels).double().numpy()
    assert not np.allclose(loaded.encode(IMAGES), normed(clip), atol=1e-2)


def test_style_descriptors_of_plain_weights(tower: Any, tmp_path: Path) -> None:
    """Conversions have the weights alone."""
    from safetensors.torch import save_file

    checkpoint = released(tower)
    torch.save(checkpoint, tmp_path / "csd.bin")
    plain = {
        name.removeprefix("module."): value.contiguous()
        for name, value in checkpoint["model_state_dict"].items()
    }
    save_file(plain, tmp_path / "csd.safetensors")
    vectors = [
        encoders.load(csd(tmp_path / f"csd.{suffix}"), "cpu").encode(IMAGES)
        for suffix in ("bin", "safetensors")
    ]
    assert np.array_equal(*vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module.last_layer_style": torch.zeros(8, 5)}, r"of another shape.*proj \[8, 5\]"),
        ({"module.backbone.more": torch.zeros(1)}, r"1 unknown, e\.g\. more"),
    ],
)
def test_other_style_descriptors(
    tower: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    torch.save(released(tower, **changes), tmp_path / "csd.bin")
    with pytest.raises(ClipshiftError, match=message):
        encoders.load(csd(tmp_path / "csd.bin"), "cpu")


def test_no_style_descriptor(tower: Any, tmp_path: Path) -> None:
    torch.save(tower.state_dict(), tmp_path / "clip.pt")
    with pytest.raises(ClipshiftError, match=r"no 'last_layer_style'.*get https://huggingface"):
        encoders.load(csd(tmp_path / "clip.pt"), "cpu")
    with pytest.raises(ClipshiftError, match=r"csd.bin: no such file of weights; get it \(e\.g\."):
        encoders.load(csd(tmp_path / "csd.bin"), "cpu")


def test_nothing_of_a_checkpoint_runs(tower: Any, tmp_path: Path) -> None:
    """The classes that stand beside weights are named, and never called."""
    from clipshift.core.weights import read_saved

    torch.save(released(tower), tmp_path / "csd.bin")
    saved = read_saved(tmp_path / "csd.bin")
    assert not isinstance(saved["args"], argparse.Namespace) and not vars(saved["args"])
    assert not vars(saved["opt_bb"]["param_groups"][0]["lr"])


def test_an_encoder_that_is_tuned_reads_the_same_features(resnet: Path) -> None:
    """Gradients reach the convolutions through the statistic."""
    loaded = encoders.load(resnet_encoder(resnet, features="gram", layers=["conv1"]), "cpu")
    pixels = torch.stack([loaded.preprocess(image) for image in IMAGES])
    loaded.forward(pixels).sum().backward()
    assert loaded.tower.conv1.weight.grad.abs().sum() > 0
