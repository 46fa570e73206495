"""Controlled trainings from captions to tables, by real Snakemake, on top of the test study."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from clipshift import report
from clipshift.config.load import load
from clipshift.files import read_json, read_parquet
from clipshift.layout.study import Layout
from clipshift.start import VISUAL
from tests.workflow.runner import TEST_CONFIG, planned, snakemake

EMOJI = {"title": "{annotation}", "description": "{group}, {subgroup}", "tags": "{tags}"}
NAMED = {"animal": ["animal", "bird"], "food": ["food", "fruit"]}
FULL = {"split": "test_full", "seed": 0}
OVERLAY = {
    "splits": {"test_emoji": {"recipe": "full", "reference": False, "seeds": []}},
    "causes": {
        "fields": {"test_color": EMOJI, "test_black": EMOJI},
        "matchers": {"named": {"names": NAMED, "fields": ["description"], "case": False}},
        "found": "named",
        "corpora": {
            "text": {"fields": ["title"], "labels": "named"},
            "labels": {"labels": "named"},
            "pictures": {},
        },
        "models": {
            "frozen": {
                "objective": "clip", "base": "nano", "corpus": "text",
                "text": {"start": FULL | {"model": "nano"}, "frozen": True},
            },
            "views": {"objective": "simclr", "base": "nano", "corpus": "pictures"},
            "noclip": {
                "objective": "cross_entropy", "base": "nano", "corpus": "labels",
                "start": {"split": "test_emoji", "model": "views", "seed": 0},
            },
        },
        "heads": {
            "plain": {"kind": "prompts", "templates": ["{c}"], "words": False},
            "probe": {"kind": "linear", "corpus": "labels"},
        },
        "subsets": {"sketch_two": {"of": "test_sketch", "classes": ["animal", "food"]}},
        "runs": [
            {"split": "test_emoji", "model": "frozen", "seeds": [0], "heads": ["plain"]},
            {"split": "test_emoji", "model": "views", "seeds": [0], "heads": ["probe"]},
            {"split": "test_emoji", "model": "noclip", "seeds": [0]},
            {"split": "test_full", "model": "nano", "seeds": [0], "heads": ["probe"]},
        ],
    },
}  # fmt: skip
TABLES = [f"results/tables/causes_{name}.csv" for name in ("runs", "models", "corpora", "labels")]


@pytest.fixture(scope="module")
def causes(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """The finished test study with controlled trainings, and the words that name its overlay."""
    folder = tmp_path_factory.mktemp("causes") / "study"
    shutil.copytree(study, folder, symlinks=True)
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(OVERLAY))
    words = ("--configfile", str(TEST_CONFIG), str(overlay), "--", *TABLES)
    snakemake(folder, *words)
    return folder, words


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"results/tables/causes_{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(
        folder / f"results/models/{run}/model.pt", weights_only=True
    )
    return state


def test_a_second_run_finds_nothing_to_do(causes: tuple[Path, tuple[str, ...]]) -> None:
    folder, words = causes
    assert planned(folder, *words) == {}


def test_one_row_a_run_and_head_with_n_and_intervals(
    causes: tuple[Path, tuple[str, ...]],
) -> None:
    found = rows(causes[0], "runs")
    assert [(r["run"], r["head"]) for r in found] == [
        ("test_emoji-frozen-s0", "own"),
        ("test_emoji-frozen-s0", "plain"),
        ("test_emoji-views-s0", "probe"),
        ("test_emoji-noclip-s0", "own"),
        ("test_full-nano-s0", "probe"),
    ]
    assert [r["text_tower"] for r in found] == ["pretrained, frozen"] * 2 + ["", "", "random"]
    for row in found:
        low, top1, high = (float(row[f"sketch_two_top1{end}"]) for end in ("_low", "", "_high"))
        assert 0 <= low <= top1 <= high <= 1 and int(row["sketch_two_n"]) > 0
    assert len(rows(causes[0], "models")) == 5 * 3  # three test sets, one of them a subset


def test_predictions_are_those_of_the_accuracy(causes: tuple[Path, tuple[str, ...]]) -> None:
    folder = causes[0] / "results/eval"
    for name in ("test_emoji-noclip-s0", "test_emoji-views-s0-probe"):
        result = read_json(folder / f"{name}.json")
        table = read_parquet(folder / result["predictions"]).to_pylist()
        for test_set, entry in result["sets"].items():
            mine = [r for r in table if r["test_set"] == test_set]
            assert len(mine) == entry["n"] and len({r["key"] for r in mine}) == entry["n"]
            assert sum(r["correct"] for r in mine) == entry["correct"]


def test_a_frozen_text_tower_is_the_one_it_started_from(
    causes: tuple[Path, tuple[str, ...]],
) -> None:
    donor, frozen = (weights(causes[0], r) for r in ("test_full-nano-s0", "test_emoji-frozen-s0"))
    text = [k for k in donor if not k.startswith(VISUAL) and k != "logit_scale"]
    assert text and all(torch.equal(donor[k], frozen[k]) for k in text)
    assert not torch.equal(donor["visual.conv1.weight"], frozen["visual.conv1.weight"])


def test_what_a_training_read_adds_up(causes: tuple[Path, tuple[str, ...]]) -> None:
    split = read_json(causes[0] / "results/splits/test_emoji.json")
    for name in ("text", "labels", "pictures"):
        mine = [r for r in rows(causes[0], "corpora") if r["corpus"] == name]
        left_out = sum(int(r["left_out"]) for r in mine)
        assert int(mine[0]["points"]) == split["in"] == int(mine[0]["used"]) + left_out
    record = read_json(causes[0] / "results/models/test_emoji-views-s0/record.json")
    assert record["split_samples"] == split["out"]
    table = read_parquet(causes[0] / "results/chosen/test_emoji-text.parquet")
    kept = table.filter(table["kept"]).to_pylist()
    assert all(len(r["labels"]) == 1 and r["caption"] for r in kept)


def test_statistics_of_captions(causes: tuple[Path, tuple[str, ...]]) -> None:
    found = {(r["field"], r["what"]): r for r in rows(causes[0], "labels")}
    named = found["description", "named"]
    assert int(named["count"]) <= int(found["any", "named"]["count"]) <= int(named["n"])


def test_the_report_shows_the_tables(causes: tuple[Path, tuple[str, ...]]) -> None:
    folder, words = causes
    at = Layout(load(*map(Path, words[1:3])))
    # Not through its rule, which would change the page of the test study.
    sampled = [split for split in at.sampled() if split not in OVERLAY["splits"]]
    page = report.page(at.report_contents([]) | {"sampled": sampled}, folder / "results")
    assert "Controlled trainings" in page
    assert all(name in page for name in TABLES) and "test_emoji-noclip-s0" in page
