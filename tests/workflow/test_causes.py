"""Controlled trainings from captions to tables, by real Snakemake, on top of the test study."""

import csv
from pathlib import Path

import torch

from clipshift.core.files import read_json, read_parquet
from clipshift.evaluation.views import measure, read
from clipshift.training.init_tower import VISUAL

TABLES = [f"results/tables/causes_{name}.csv" for name in ("runs", "models", "corpora", "labels")]


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"results/tables/{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def weights(folder: Path, run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(
        folder / f"results/models/{run}/model.pt", weights_only=True
    )
    return state


def test_one_row_a_run_and_head_with_n_and_intervals(whole: Path) -> None:
    found = rows(whole, "causes_runs")
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
    assert len(rows(whole, "causes_models")) == 5 * 3  # three test sets, one of them a subset


def test_a_set_of_fewer_classes_is_a_view_of_the_whole(whole: Path) -> None:
    for name in ("test_emoji-noclip-s0", "test_emoji-views-s0-probe"):
        entries = read_json(whole / f"results/eval/{name}.json")["sets"]
        assert entries.keys() == {"test_val", "test_sketch", "sketch_two"}
        seen = read(whole / f"results/logits/test_sketch/{name}.parquet")
        assert measure(seen)["top1"] == entries["test_sketch"]["top1"]
        assert entries["sketch_two"]["classes"] == ["animal", "food"]  # all that there are
        assert entries["sketch_two"]["correct"] == entries["test_sketch"]["correct"]


def test_a_frozen_text_tower_is_the_one_it_started_from(whole: Path) -> None:
    donor, frozen = (weights(whole, r) for r in ("test_full-nano-s0", "test_emoji-frozen-s0"))
    text = [k for k in donor if not k.startswith(VISUAL) and k != "logit_scale"]
    assert text and all(torch.equal(donor[k], frozen[k]) for k in text)
    assert not torch.equal(donor["visual.conv1.weight"], frozen["visual.conv1.weight"])


def test_what_a_training_read_adds_up(whole: Path) -> None:
    split = read_json(whole / "results/splits/test_emoji.json")
    for name in ("text", "labels", "pictures"):
        mine = [r for r in rows(whole, "causes_corpora") if r["corpus"] == name]
        left_out = sum(int(r["left_out"]) for r in mine)
        assert int(mine[0]["points"]) == split["in"] == int(mine[0]["used"]) + left_out
    record = read_json(whole / "results/models/test_emoji-views-s0/record.json")
    assert record["split_samples"] == split["out"]
    table = read_parquet(whole / "results/chosen/test_emoji-text.parquet")
    kept = table.filter(table["kept"]).to_pylist()
    assert all(len(r["labels"]) == 1 and r["caption"] for r in kept)


def test_statistics_of_captions(whole: Path) -> None:
    found = {(r["field"], r["what"]): r for r in rows(whole, "causes_labels")}
    named = found["description", "named"]
    assert int(named["count"]) <= int(found["any", "named"]["count"]) <= int(named["n"])


def test_the_report_shows_the_tables(whole: Path) -> None:
    page = (whole / "results/report.html").read_text()
    assert "Controlled trainings" in page
    assert all(name in page for name in TABLES) and "test_emoji-noclip-s0" in page
