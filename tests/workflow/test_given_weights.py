"""A text tower from a file of the user's, by real Snakemake: when it trains, and when again."""

from pathlib import Path

import open_clip
import pytest
import torch

from clipshift.core.files import read_json, sha256_file
from clipshift.similarity.open_clip_models import register
from clipshift.study.config.load import load
from tests.workflow.runner import OVERLAYS, TEST_CONFIG, changed_config, planned, snakemake
from tests.workflow.test_causes import rows, weights

RUN = "test_emoji-given-s0"
TARGETS = (
    f"results/models/{RUN}/model.pt", "results/tables/caption_examples_some.csv",
    "results/tables/coverage_some.csv",
)  # fmt: skip


def donor(file: Path, seed: int, folder: Path) -> None:
    """A model of the study's size with random weights, as open_clip would save it."""
    register("clipshift-donor", load(TEST_CONFIG).models["nano"].model, folder)
    torch.manual_seed(seed)
    file.parent.mkdir(exist_ok=True)
    torch.save(open_clip.create_model("clipshift-donor", load_weights=False).state_dict(), file)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a study whose model began with the user's tower, and its configuration."""
    folder = tmp_path_factory.mktemp("given")
    model = {"objective": "clip", "base": "nano", "corpus": "text"}
    spec = model | {"text": {"weights": "donor.pt", "frozen": True}}
    counts = {"emoji": {"of": "test_emoji", "samples": 1000, "source": "a test"}}
    counts |= {"named": {"of": "test_emoji-text", "samples": 500, "source": "a test"}}
    more = {
        "dedup": {"rule": "none", "embed": False},
        "causes.models": {"given": spec},
        "causes.runs": [{"split": "test_emoji", "model": "given", "seeds": [0]}],
        "figures.caption_examples": {"some": {"corpora": ["text", "labels"], "shown": 3}},
        "figures.coverage": {"some": {"counts": counts}},
    }
    config = changed_config(folder, more, TEST_CONFIG, OVERLAYS / "causes.yaml")
    said = snakemake(folder, "--", *TARGETS, config=config, check=False)
    assert said.returncode and "donor.pt: no such file of weights" in said.stdout
    donor(folder / "data/donor.pt", 0, folder)
    snakemake(folder, "--", *TARGETS, config=config)
    return folder, config


def test_the_frozen_tower_is_the_files(given: tuple[Path, Path]) -> None:
    folder, _ = given
    file = torch.load(folder / "data/donor.pt", weights_only=True)
    mine = weights(folder, RUN)
    text = [k for k in file if not k.startswith("visual.") and k != "logit_scale"]
    assert text and all(torch.equal(file[k], mine[k]) for k in text)
    record = read_json(folder / f"results/models/{RUN}/record.json")
    assert record["text_sha256"] == sha256_file(folder / "data/donor.pt")
    assert read_json(folder / "results/weights/given.json")["file"] == "donor.pt"


def test_tables_of_captions_and_of_published_counts(given: tuple[Path, Path]) -> None:
    folder, _ = given
    used = read_json(folder / "results/chosen/test_emoji-text.json")["out"]
    split = read_json(folder / "results/splits/test_emoji.json")["out"]
    found = {r["count"]: r for r in rows(folder, "coverage_some")}
    assert (found["emoji"]["samples"], found["named"]["samples"]) == (str(split), str(used))
    assert float(found["named"]["coverage"]) == used / 500
    assert "no class named" in found["named"]["left_out"]
    captions = rows(folder, "caption_examples_some")
    assert len(captions) == 3 and all(r["text"] and not r["labels"] for r in captions)


def test_another_file_trains_again_and_a_touched_one_does_not(given: tuple[Path, Path]) -> None:
    folder, config = given
    file = folder / "data/donor.pt"
    file.touch()
    assert planned(folder, "--", *TARGETS, config=config) == {}
    away = file.rename(folder / "data/away.pt")
    assert planned(folder, "--", *TARGETS, config=config) == {}
    donor(file, 1, folder)
    again = {"given_weights": 1, "train_captions": 1}
    assert planned(folder, "--", *TARGETS, config=config) == again
    away.rename(file)
    assert planned(folder, "--", *TARGETS, config=config) == {}
