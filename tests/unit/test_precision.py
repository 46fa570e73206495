"""Precision keys: the type that a forward pass really computes in, and where it is recorded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from clipshift.classifiers.methods.finetune import Finetune
from clipshift.core.files import read_json, sha256_bytes
from clipshift.datasets.shards import write_table, write_tar
from clipshift.datasets.tars import Sample
from clipshift.evaluation import protocols
from clipshift.similarity import embed, encoders
from clipshift.similarity.embeddings import open_shard
from clipshift.similarity.encoder import Encoder
from clipshift.similarity.encoders.folder import FolderEncoder
from clipshift.similarity.encoders.open_clip import OpenClipEncoder
from clipshift.study.config.encoder_base import EncoderBlock
from clipshift.study.config.evaluation import Evaluation
from tests.conftest import photo, row

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Layer(torch.nn.Module):
    """Products of pixels with weights; remembers their type."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(48, 16)
        self.seen: list[torch.dtype] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        products: torch.Tensor = self.linear(pixels.flatten(1))
        self.seen.append(products.dtype)
        return products


LAYER = Layer()


def preprocess(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.resize((4, 4)), np.float32)).permute(2, 0, 1) / 255


class Small(EncoderBlock):
    """An encoder of one layer."""

    def load(self, device: Any) -> Encoder:
        return Encoder(preprocess, LAYER, 2, device, LAYER)


@pytest.mark.parametrize("precision", DTYPES)
def test_embeddings_are_computed_in_their_precision(precision: Any, tmp_path: Path) -> None:
    pictures = [photo(i) for i in range(3)]
    write_tar(tmp_path / "0.tar", [Sample(f"s-{i}", {"jpg": p}) for i, p in enumerate(pictures)])
    rows = [row("s", str(i), sha256=sha256_bytes(p)) for i, p in enumerate(pictures)]
    write_table(tmp_path / "0.parquet", rows)
    LAYER.seen.clear()
    encoder = encoders.load(Small(precision=precision), "cpu")
    embed.embed(encoder, tmp_path / "0.tar", tmp_path / "0.parquet", "0", tmp_path / "e")
    assert set(LAYER.seen) == {DTYPES[precision]}
    # What is stored says so, where it is not what it always was.
    account = read_json(tmp_path / "e/account/account_0.json")
    assert account.get("precision", "fp32") == precision and account["out"] == 3
    assert ("precision" in account) is (precision != "fp32")
    vectors = open_shard(tmp_path / "e", "0").vectors
    exact = encoders.load(Small(), "cpu")
    images = [Image.open(file).convert("RGB") for file in _written(tmp_path, pictures)]
    assert np.abs(vectors - exact.encode(images)).max() < 0.01


def _written(folder: Path, pictures: list[bytes]) -> list[Path]:
    files = [folder / f"{i}.jpg" for i in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        file.write_bytes(picture)
    return files


def test_a_precision_is_a_part_of_an_encoders_identity() -> None:
    """The block is a parameter of the rules: another one embeds anew; the default adds no key."""
    spec = OpenClipEncoder(kind="open_clip", model="RN50", pretrained="openai")
    assert "precision" not in spec.model_dump(mode="json")
    half = spec.model_copy(update={"precision": "bf16"})
    assert half.model_dump(mode="json") == spec.model_dump(mode="json") | {"precision": "bf16"}


def test_embeddings_of_the_user_have_no_precision_to_choose() -> None:
    with pytest.raises(ValidationError, match="fp32"):
        FolderEncoder(kind="folder", folders={"a": "b"}, precision="bf16")


@pytest.mark.parametrize("precision", DTYPES)
def test_evaluations_are_computed_in_their_precision(
    precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Evaluation(precision=precision).precision == precision
    model = protocols.Model(LAYER, preprocess, torch.device("cpu"), None, None, [])
    monkeypatch.setattr(protocols, "_load", lambda *_: model)
    loaded = protocols.load({}, tmp_path / "model.pt", tmp_path, precision)
    LAYER.seen.clear()
    seen = protocols.features(loaded, iter([Sample("a", {"jpg": photo(0)})]), 1)
    assert LAYER.seen == [DTYPES[precision]] and seen.x.dtype == np.float32


def test_tuning_has_a_precision_of_its_own() -> None:
    """That of embeddings does not count: a tower that is tuned is not the one that embeds."""
    spec = Finetune(kind="finetune", encoder="small")
    LAYER.seen.clear()
    spec._loaded(Small(precision="bf16")).forward(torch.zeros(1, 3, 4, 4))
    assert LAYER.seen == [torch.float32]
