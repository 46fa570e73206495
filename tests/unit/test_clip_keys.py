"""Keys of CLIP trainings change what they say, in open_clip's program; stops change nothing."""

import csv
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_file, write_parquet
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.study.config.trainings import EpochTraining, Training
from clipshift.study.continuing import PROGRESS
from clipshift.training import launch
from clipshift.training.clip import train
from tests.conftest import photo

MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
STOPS = 10


class Data:
    """A split of 24 samples, trained on by the watched program."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self._patch = folder, patch
        keys = [f"k{i:02d}" for i in range(24)]
        samples = (Sample(k, {"jpg": photo(i), "txt": k.encode()}) for i, k in enumerate(keys))
        write_tar(folder / "0.tar", samples)
        write_parquet(folder / "s.parquet", pa.table({"key": keys, "kept": [True] * 24}))

    def train(self, name: str, training: Training, stop: int = 0, **named: Any) -> Path:
        """Train, or continue, and end at a pass of the vision tower; the folder of the results."""
        out = self.folder / name
        spy = [sys.executable, str(Path(__file__).with_name("spied_clip.py"))]
        words = [*spy, str(out / "passes"), str(stop)]
        out.mkdir(exist_ok=True)
        self._patch.setattr(launch, "program", lambda training: words)
        split, tars = self.folder / "s.parquet", [str(self.folder / "0.tar")]
        train("s-vit-s0", split, tars, training, 0, out / "work", out / "model.pt", **named)
        return out


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    return Data(tmp_path, monkeypatch)


def settings(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "batch": 8, "warmup": 0} | changes


def passes(out: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()[:3]) for line in (out / "passes").read_text().splitlines()]


def kept(out: Path) -> int:
    """Bytes of the last pass."""
    return int((out / "passes").read_text().split()[-1])


def norms(out: Path) -> list[float]:
    with (out / "loss.csv").open() as stream:
        return [float(row["gradient_norm"]) for row in csv.DictReader(stream)]


def test_each_key_changes_what_it_says(data: Data) -> None:
    one = settings(samples=8, checkpoints=1, lr=1e-3)
    plain = data.train("plain", Training(**one))
    parts = data.train("parts", Training(**one, accumulation=4))
    small = data.train(
        "small", Training(**one, accumulation=2, precision="amp_bf16", grad_checkpointing=True)
    )
    half = data.train("half", Training(**one, accumulation=2, precision="bf16"))
    float32, bfloat16 = "torch.float32", "torch.bfloat16"
    assert passes(plain) == [("8", float32, "True")]
    assert passes(parts) == [("2", float32, "False")] * 4 + [("2", float32, "True")] * 4
    assert passes(small) == passes(half)
    assert passes(half) == [("4", bfloat16, "False")] * 2 + [("4", bfloat16, "True")] * 2
    assert kept(small) < 0.6 * kept(half)
    # The gradient of all parts is that of the batch, with that of the logit scale.
    assert norms(parts) == pytest.approx(norms(plain), rel=1e-5)
    types = [torch.load(out / "model.pt", weights_only=True) for out in (small, half)]
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert [state[name].dtype for state in types] == [torch.float32, torch.bfloat16]
    for out in (plain, parts, small, half):
        assert read_json(out / "record.json")["samples_seen"] == 8


def test_stopped_ten_times_ends_with_the_same_bytes(data: Data) -> None:
    """Each start has one part of two steps, and is gone within the next."""
    training = EpochTraining(
        **settings(epochs=6, checkpoints=12, accumulation=2, grad_checkpointing=True),
        epoch_sets=["val"],
    )
    assert training.checkpoints > STOPS
    whole = data.train("whole", training, epochs=data.folder / "whole/epochs")
    step = len(passes(whole)) // (12 * 2)
    for number in range(STOPS):
        with pytest.raises(ClipshiftError, match="continue from the last checkpoint"):
            data.train("again", training, stop=3 * step, epochs=data.folder / "again/epochs")
        assert read_json(data.folder / f"again/work/{PROGRESS}") == {"parts": number + 1}
    again = data.train("again", training, epochs=data.folder / "again/epochs")
    for name in ("model.pt", "loss.csv", *(f"epochs/{epoch}.pt" for epoch in range(1, 7))):
        assert sha256_file(again / name) == sha256_file(whole / name), name
    assert sha256_file(again / "epochs/6.pt") == sha256_file(again / "model.pt")
    seen = {epoch: entry["samples_seen"] for epoch, entry in
            read_json(again / "record.json")["epochs"].items()}  # fmt: skip
    assert seen == {str(epoch): 32 * epoch for epoch in range(1, 7)}
