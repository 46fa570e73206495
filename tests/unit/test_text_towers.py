"""Text towers from a file of the user's: where they fit, what is refused, and what then trains."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, sha256_file, write_parquet
from clipshift.core.weights import read_weights
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.figures.conditions_table import described
from clipshift.similarity.open_clip_models import load, register
from clipshift.study.config.folders import DATA_VARIABLE
from clipshift.study.config.trainings import Training
from clipshift.training.clip import train
from clipshift.training.init_tower import record_weights, start_text
from clipshift.training.objectives.clip import Clip, TextTower
from tests.conftest import photo

VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
SIZES = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
NANO: dict[str, Any] = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": SIZES}
CUSTOM = NANO | {"custom_text": True}
RUN = "s-m-s0"


def model_of(config: dict[str, Any], folder: Path, seed: int) -> Any:
    register("clipshift-nano", config, folder)
    torch.manual_seed(seed)
    return open_clip.create_model("clipshift-nano", load_weights=False, pretrained_text=False)


def text_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the text tower by their names in a CLIP of one module."""
    return {
        name.removeprefix("text."): value
        for name, value in state.items()
        if not name.startswith(("visual.", "logit_"))
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k].float()) for k in a)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("donor", [NANO, CUSTOM])
@pytest.mark.parametrize("model", [NANO, CUSTOM])
def test_every_weight_of_the_tower_is_the_files(
    model: dict[str, Any], donor: dict[str, Any], prefix: str, tmp_path: Path
) -> None:
    """In half precision and with the numbers that OpenAI's files hold; the rest is the model's."""
    given = {k: v.half() for k, v in model_of(donor, tmp_path, 0).state_dict().items()}
    saved = {f"{prefix}{k}": v for k, v in given.items()}
    saved |= {"input_resolution": torch.tensor(224), "vocab_size": torch.tensor(49408)}
    torch.save({"epoch": 32, "state_dict": saved}, tmp_path / "given.pt")
    mine = model_of(model, tmp_path, 1)
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    start_text(mine, tmp_path / "given.pt")
    after = mine.state_dict()
    assert same(text_of(after), text_of(given))
    assert not same(text_of(after), text_of(before))
    others = [k for k in after if k.startswith(("visual.", "logit_"))]
    assert len(others) > 50 and all(torch.equal(after[k], before[k]) for k in others)


def test_a_tower_of_hugging_face(tmp_path: Path) -> None:
    """As RoBERTa's: its architecture from a folder of the user's, its weights from the file."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.RobertaConfig(vocab_size=99, intermediate_size=8, **small)
    config.save_pretrained(tmp_path / "roberta")  # no weights
    text = {"hf_model_name": str(tmp_path / "roberta"), "hf_tokenizer_name": "none"}
    text |= {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}
    donor, mine = (model_of(NANO | {"text_cfg": text}, tmp_path, seed) for seed in (0, 1))
    torch.save(donor.state_dict(), tmp_path / "given.pt")
    start_text(mine, tmp_path / "given.pt")
    assert same(text_of(mine.state_dict()), text_of(donor.state_dict()))
    assert any(name.startswith("transformer.encoder") for name in text_of(mine.state_dict()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 32}, r"of another shape, e\.g\. positional_embedding \[16, 32\] for \[16, 16\]"),
        ({"layers": 2}, r"12 unknown, e\.g\. transformer\.resblocks\.1\."),
        ({"context_length": 8}, r"1 of another shape, e\.g\. positional_embedding \[8, 16\]"),
    ],
)
def test_another_tower_is_refused_with_file_and_weight(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    other = model_of(NANO | {"text_cfg": SIZES | changes}, tmp_path, 0)
    torch.save(other.state_dict(), tmp_path / "given.pt")
    with pytest.raises(ClipshiftError, match=rf"given\.pt does not fit this model: .*{said}"):
        record_weights("given.pt", None, NANO, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_a_torchscript_program_is_not_run(tmp_path: Path) -> None:
    """The form in which OpenAI released its models."""
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)), tmp_path / "given.pt")
    with pytest.raises(ClipshiftError, match=r"given\.pt is a TorchScript program.*state_dict"):
        read_weights(tmp_path / "given.pt")


def test_a_tower_has_one_origin() -> None:
    run = {"split": "full", "model": "clip", "seed": 0}
    for both in ({}, {"start": run, "weights": "w.pt"}):
        with pytest.raises(ValidationError, match=r"\(`start`\) or of a file"):
            TextTower.model_validate(both)
    recorded = TextTower.model_validate({"start": run}).model_dump(mode="json")
    assert recorded == {"start": run, "frozen": False}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A file of weights below the user's data, and a split of twelve images."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    donor = model_of(NANO, tmp_path, 5)
    torch.save(donor.state_dict(), tmp_path / "data/given.pt")
    keys = [f"k{i:02d}" for i in range(12)]
    tar = tmp_path / "0.tar"
    write_tar(tar, (Sample(k, {"jpg": photo(i), "txt": k.encode()}) for i, k in enumerate(keys)))
    split = tmp_path / "s.parquet"
    write_parquet(split, pa.table({"key": keys, "kept": [True] * 12}))
    return {"donor": donor.state_dict(), "split": split, "tars": [str(tar)]}


def run(given: dict[str, Any], folder: Path, **text: Any) -> dict[str, Any]:
    """Train a model that begins with the file's tower; its record, and its text weights."""
    record_weights("given.pt", None, NANO, folder / "weights.json")
    spec = Clip.model_validate(
        {"objective": "clip", "base": "b", "corpus": "c", "text": {"weights": "given.pt"} | text}
    )
    training = Training(model=NANO, samples=24, batch=4, checkpoints=2, warmup=2)
    train(
        RUN, given["split"], given["tars"], training, 0, folder / "work", folder / "out/model.pt",
        spec=spec, start=folder / "weights.json",
    )  # fmt: skip
    state = read_weights(folder / "out/model.pt")
    return {"record": read_json(folder / "out/record.json"), "state": state}


def test_a_frozen_tower_stays_and_a_trainable_one_moves(
    given: dict[str, Any], tmp_path: Path
) -> None:
    frozen, trained = (run(given, tmp_path / str(f), frozen=f) for f in (True, False))
    assert same(text_of(frozen["state"]), text_of(given["donor"]))
    moved = text_of(trained["state"])
    assert moved.keys() == text_of(given["donor"]).keys()
    for name in ("text_projection", "transformer.resblocks.0.mlp.c_fc.weight"):
        change = (moved[name] - given["donor"][name]).abs().max()
        assert 0 < change < 0.1, name  # a few small steps away
    record = trained["record"]
    assert record["text_sha256"] == sha256_file(tmp_path / "data/given.pt")
    assert record["controlled"]["text"]["weights"] == "given.pt"
    folder = tmp_path / "evaluated"
    assert load("clipshift-eval", NANO, tmp_path / "True/out/model.pt", folder).model is not None


def test_a_file_that_changed_after_the_plan_is_refused(
    given: dict[str, Any], tmp_path: Path
) -> None:
    record_weights("given.pt", {"bytes": 1, "sha256": "0" * 64}, NANO, tmp_path / "weights.json")
    assert json.loads((tmp_path / "weights.json").read_text())["sha256"] == "0" * 64
    spec = Clip.model_validate(
        {"objective": "clip", "base": "b", "corpus": "c", "text": {"weights": "given.pt"}}
    )
    training = Training(model=NANO, samples=24, batch=4)
    with pytest.raises(ClipshiftError, match=r"given\.pt changed after .* run again"):
        train(
            RUN, given["split"], given["tars"], training, 0, tmp_path / "work", tmp_path / "m.pt",
            spec=spec, start=tmp_path / "weights.json",
        )  # fmt: skip


def test_tables_name_the_file_that_a_tower_comes_from() -> None:
    spec = Clip.model_validate(
        {"objective": "clip", "base": "b", "corpus": "c", "text": {"weights": "w.pt"}}
    )
    result = dict.fromkeys(("split", "head", "training_images", "samples_seen"), "")
    row = described(
        result | {"model": "m", "objective": "clip"}, {"m": spec.model_dump(mode="json")}
    )
    assert (row["text_tower"], row["starts_from"]) == ("pretrained", "w.pt")
