"""What the trainings of a comparison share: images, crops, epochs, optimiser; by the full plans."""

from pathlib import Path
from typing import Any

import open_clip
import pyarrow as pa
import pytest
import torch
from open_clip_train.params import parse_args

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import sha256_file, write_parquet
from clipshift.datasets.captions.corpora import Reader
from clipshift.datasets.external_check import take_stock
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.causes import given_weights
from clipshift.study.config.load import load
from clipshift.study.config.objective_base import Vision
from clipshift.study.config.study import Config
from clipshift.study.config.trainings import EpochTraining
from clipshift.study.layout.causes import Causes
from clipshift.study.layout.study import Layout
from clipshift.training.clip import arguments
from clipshift.training.images import undecodable
from clipshift.training.local_copy import copy_split, unseen
from clipshift.training.loop import optimizer_of
from clipshift.training.towers import build
from clipshift.training.vision import read_chosen
from tests.conftest import ROOT, photo
from tests.unit.test_text_towers import NANO


@pytest.fixture(scope="module")
def plans() -> dict[str, Causes]:
    names = ("imagenet_captions", "yfcc15m")
    return {name: Causes(Layout(load(ROOT / f"config/{name}.yaml"))) for name in names}


def trainer(causes: Causes, model: str, folder: Path) -> Any:
    """What open_clip's trainer makes of a model's settings."""
    training = causes.training(model)
    assert isinstance(training, EpochTraining)
    run = f"split-{model}-s0"
    return parse_args(arguments(run, training.on(10_000), 0, folder / "list", 8, folder))


def test_clip_and_classifier_share_images_crops_and_epochs(
    plans: dict[str, Causes], tmp_path: Path
) -> None:
    causes = plans["imagenet_captions"]
    clip, classifier = "incaps_clip", "incaps_classifier"
    assert causes.chosen("incaps_all", clip) == causes.chosen("incaps_all", classifier)
    a, b = causes.training(clip), causes.training(classifier)
    assert (a.epochs, a.augmentation, a.model) == (b.epochs, b.augmentation, b.model)
    assert a.epochs == 32 and causes.training("incaps_classifier_90").epochs == 90
    small = b.model_copy(update={"model": NANO})
    spec = causes.spec(classifier)
    assert isinstance(spec, Vision)
    tower = build(small, spec, 3, 0, tmp_path)
    side = tower.visual.image_size
    seen = spec.view(small, tower.visual)
    theirs = open_clip.image_transform(
        side, is_train=True, aug_cfg=trainer(causes, clip, tmp_path).aug_cfg
    )
    assert repr(seen) == repr(theirs)
    assert "scale=(0.9, 1.0)" in repr(seen) and "RandomResizedCrop" in repr(seen)


def test_captions_and_templates_train_on_the_same_images(plans: dict[str, Causes]) -> None:
    corpora = plans["imagenet_captions"].block.corpora
    texts = [("t", "", ""), ("", "d", ""), ("", "", "a, b"), ("", "", ""), (" ", "", "")]
    rows = [
        {"key": f"k{i}", "class_name": None, "label": 3, "title": t, "description": d, "tags": a}
        for i, (t, d, a) in enumerate(texts)
    ]
    names = [f"c{i}" for i in range(1000)]
    kept = {}
    for name in ("incaps_all_fields", "incaps_template"):
        made = [Reader(corpora[name], names).read(row) for row in rows]
        kept[name] = [row["key"] for row in made if row["reason"] is None]
    assert kept["incaps_all_fields"] == kept["incaps_template"] == ["k0", "k1", "k2"]
    assert Reader(corpora["incaps_template"], names).read(rows[3])["reason"] == "no text"


def test_both_trainers_read_the_same_keys(tmp_path: Path) -> None:
    """Of one table of chosen images, of which one is damaged: CLIP's copy, and the classifier's."""
    keys = [f"k{i:02d}" for i in range(12)]
    tar, chosen = tmp_path / "0.tar", tmp_path / "chosen.parquet"
    images = [photo(i) if i != 5 else b"\xff\xd8 no image" for i in range(12)]
    samples = (Sample(k, {"jpg": i, "txt": b"t"}) for k, i in zip(keys, images, strict=True))
    write_tar(tar, samples)
    columns = {"key": keys, "kept": [k != "k07" for k in keys], "caption": ["a b"] * 12}
    write_parquet(chosen, pa.table(columns | {"labels": [[i % 3] for i in range(12)]}))
    copy_split(chosen, [tar], None, 0, tmp_path / "data")
    copied = [s.key for file in (tmp_path / "data").glob("*.tar") for s in read_tar(file)]
    wanted, _ = read_chosen(chosen, 3)
    seen, _ = read_chosen(chosen, 3, undecodable([tar], wanted))
    assert sorted(copied) == seen == [k for k in keys if k not in ("k05", "k07")]
    assert unseen(tmp_path)["undecodable"].keys() == {"k05"}


def test_all_arms_on_yfcc_have_one_set_of_betas(plans: dict[str, Causes], tmp_path: Path) -> None:
    causes = plans["yfcc15m"]
    weight = torch.nn.Linear(1, 1)
    found = {}
    for name, spec in causes.block.models.items():
        if spec.objective == "clip":
            args = trainer(causes, name, tmp_path)
            found[name] = (args.beta1, args.beta2, args.eps)
        elif isinstance(spec, Vision):
            made = optimizer_of(weight, causes.training(name), spec).defaults
            found[name] = (*made["betas"], made["eps"])
    assert len(found) == 4 and set(found.values()) == {(0.9, 0.999, 1e-8)}


def test_another_file_of_weights_trains_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content is what counts: not its date, nor where the data lie, nor that they are away."""
    monkeypatch.chdir(tmp_path)
    given = load(ROOT / "config/imagenet_captions.yaml")

    def identity(data: str) -> Any:
        cfg = Config.model_validate(given.model_dump() | {"data": data})
        return Causes(Layout(cfg)).weights_identity("incaps_clip_template_frozen")

    assert identity("data") is None
    for folder in ("data", "moved"):
        Path(folder).mkdir()
        Path(folder, "openai_rn50.safetensors").write_bytes(b"weights")
    first = identity("data")
    assert first == {"bytes": 7, "sha256": sha256_file(Path("data/openai_rn50.safetensors"))}
    assert identity("moved") == first
    Path("data/openai_rn50.safetensors").write_bytes(b"others!")
    assert identity("data") not in (None, first)
    record = Path("results/weights/incaps_clip_template_frozen.json")
    record.parent.mkdir(parents=True)
    record.write_text('{"file": "openai_rn50.safetensors", "bytes": 7, "sha256": "abc"}')
    assert identity("away") == {"bytes": 7, "sha256": "abc"}


def test_a_missing_file_of_weights_is_named_with_its_key(tmp_path: Path) -> None:
    cfg = load(ROOT / "config/imagenet_captions.yaml")
    weights = given_weights(cfg.causes)
    key = "causes.models.incaps_clip_template_frozen.text.weights"
    assert weights[key] == "openai_rn50.safetensors" and len(weights) == 2
    (tmp_path / "openai_rn5O.safetensors").touch()
    with pytest.raises(ClipshiftError) as error:
        take_stock({}, tmp_path, None, weights)
    assert f"{tmp_path}/openai_rn50.safetensors  ({key})" in str(error.value)
    assert "did you mean openai_rn5O.safetensors?" in str(error.value)
    (tmp_path / "openai_rn50.safetensors").touch()
    assert take_stock({}, tmp_path, None, weights) == {}
