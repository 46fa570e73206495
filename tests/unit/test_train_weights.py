"""Files of weights are foreign bytes: one sentence says what each is; none of them runs."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.weights import fit, read_weights
from clipshift.similarity import open_clip_models
from clipshift.similarity.encoders.open_clip import OpenClipEncoder
from clipshift.training import checkpoints
from clipshift.training.init_tower import start_text, start_vision

NANO: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import open_clip

    open_clip_models.register("clipshift-strange", NANO, tmp_path_factory.mktemp("config"))
    return open_clip.create_model("clipshift-strange", load_weights=False)


def encoder(path: Path) -> Any:
    return OpenClipEncoder(kind="open_clip", model="clipshift-strange", pretrained=str(path))


def cut(path: Path, state: dict[str, Any]) -> None:
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-300])


def flipped(path: Path, state: dict[str, Any]) -> None:
    torch.save(state, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


STRANGE: dict[str, tuple[Callable[[Path, dict[str, Any]], Any], str]] = {
    "pickled": (lambda p, s: torch.save({"args": argparse.Namespace(a=1), **s}, p), "never loaded"),
    "numpy": (lambda p, s: torch.save({"epoch": np.float64(1), **s}, p), "never loaded"),
    "old pickle": (
        lambda p, s: torch.save({"f": re.compile("a"), **s}, p,
                                _use_new_zipfile_serialization=False),
        "never loaded",
    ),
    "lfs": (lambda p, s: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "lfs pull"),
    "garbage": (lambda p, s: p.write_bytes(bytes(range(256)) * 9), "damaged, cut off"),
    "text": (lambda p, s: p.write_text("no weights"), "damaged, cut off"),
    "empty": (lambda p, s: p.write_bytes(b""), "is empty"),
    "page": (lambda p, s: p.write_text("<!DOCTYPE html><html>"), "web page"),
    "int": (lambda p, s: torch.save(3, p), "type int"),
    "list": (lambda p, s: torch.save([1], p), "type list"),
    "none": (lambda p, s: torch.save(None, p), "type NoneType"),
    "state of none": (lambda p, s: torch.save({"state_dict": None}, p), "type NoneType"),
    "no weights": (lambda p, s: torch.save({}, p), "holds nothing"),
    "nested": (lambda p, s: torch.save({"model": s}, p), "under 'model'"),
    "numbered": (lambda p, s: torch.save({1: torch.zeros(1)}, p), "under 1"),
    "cut": (cut, "damaged, cut off"),
    "flipped": (flipped, "damaged, cut off"),
    "missing": (lambda p, s: None, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_every_reader_says_what_the_file_is(model: Any, tmp_path: Path, kind: str) -> None:
    make, said = STRANGE[kind]
    path = tmp_path / "strange.pt"
    make(path, model.state_dict())
    readers: list[Callable[[], object]] = [
        lambda: read_weights(path),
        lambda: open_clip_models.load("clipshift-strange", NANO, path, tmp_path),
        lambda: start_text(model, path),
        lambda: start_vision(model, path),
    ]
    if path.exists():
        readers.append(lambda: encoder(path).load(torch.device("cpu")))
    for read in readers:
        with pytest.raises(ClipshiftError, match=said) as error:
            read()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_prefixes_of_wrappers_are_removed(
    model: Any, tmp_path: Path, prefix: str, wrapped: bool
) -> None:
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, path)
    assert read_weights(path).keys() == model.state_dict().keys()
    loaded = encoder(path).clip(torch.device("cpu")).model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_safetensors(model: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, path)
    assert read_weights(path).keys() == model.state_dict().keys()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ClipshiftError, match="damaged, cut off"):
        read_weights(path)


def test_weights_of_another_model_are_counted(model: Any, tmp_path: Path) -> None:
    state = dict(model.state_dict())
    state["more"] = torch.zeros(1)
    state["logit_scale"] = torch.zeros(2)
    del state["positional_embedding"]
    with pytest.raises(ClipshiftError, match=r"1 missing, e\.g\. positional.*1 unknown.*logit_sc"):
        fit(model, state, tmp_path / "w.pt")


def test_a_run_without_the_tower(model: Any, tmp_path: Path) -> None:
    visual = {k: v for k, v in model.state_dict().items() if k.startswith("visual.")}
    torch.save(visual, tmp_path / "vision.pt")
    with pytest.raises(ClipshiftError, match="has no text tower"):
        start_text(model, tmp_path / "vision.pt")
    text = {k: v for k, v in model.state_dict().items() if not k.startswith("visual.")}
    torch.save(text, tmp_path / "text.pt")
    with pytest.raises(ClipshiftError, match="has no vision tower"):
        start_vision(model, tmp_path / "text.pt")


@pytest.mark.parametrize("saved", [None, 3, [1], {}, {"epoch": "1", "state_dict": {}}])
def test_a_file_that_is_no_checkpoint_of_a_training(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / checkpoints.LATEST)
    with pytest.raises(ClipshiftError, match="is no checkpoint of a training"):
        checkpoints.settle(tmp_path)


def test_settle_passes_files_of_other_names(tmp_path: Path) -> None:
    torch.save(1, tmp_path / "epoch_1x.pt")
    assert checkpoints.settle(tmp_path) is None


@pytest.mark.parametrize("pretrained", ["", " ", "\n"])
def test_no_weights_are_no_weights(pretrained: str) -> None:
    """open_clip would begin with random ones."""
    with pytest.raises(ValidationError, match="pretrained"):
        OpenClipEncoder(kind="open_clip", model="ViT-B-32", pretrained=pretrained)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 8,'
        '"patch_size": 8, "head_width": 8}, "text_cfg": {"context_length": 8,'
        '"vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}}, "preprocess_cfg": {}}'
    )
    spec = OpenClipEncoder(kind="open_clip", model=f"local-dir:{tmp_path}", pretrained="there")
    with pytest.raises(ClipshiftError, match="could not be loaded"):
        spec.load(torch.device("cpu"))
