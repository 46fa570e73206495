"""Zero-shot evaluation against CLIP_benchmark's own metrics on a tiny random model."""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_benchmark.cli import main_build
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_classification
from sklearn.metrics import balanced_accuracy_score

from clipshift import models, sets
from clipshift.config.data import Holdout, Take, TestSet
from clipshift.config.study import Evaluation
from clipshift.errors import ClipshiftError
from clipshift.evaluate import evaluate_run, measure
from clipshift.files import read_json, write_json
from tests.conftest import row, write_source

CLASSES = {f"thing {i}": [f"fam/{i}"] for i in range(7)}
TEMPLATES = ["{c}", "a drawing of a {c}"]
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def test_measure_against_a_hand_count() -> None:
    scores = np.array([[9, 1, 0], [1, 9, 0], [0, 9, 1], [9, 0, 1], [0, 1, 9]], np.float32)
    found = measure(scores, np.array([0, 0, 1, 1, 1]))
    assert (found["n"], found["correct"], found["top1"]) == (5, 2, 0.4)
    assert found["mean_per_class_recall"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["top1_low"] < 0.4 < found["top1_high"]


def test_ties_go_to_the_lower_class() -> None:
    scores = np.ones((4, 7), np.float32)
    assert measure(scores, np.array([0, 0, 0, 1]))["correct"] == 3
    assert measure(scores, np.array([4, 4, 5, 6]))["top5"] == 0.5


def test_top5_needs_more_than_five_classes() -> None:
    labels = np.arange(5)
    assert measure(np.eye(5, dtype=np.float32), labels)["top5"] is None
    scores = np.tile(np.arange(6, 0, -1, dtype=np.float32), (6, 1))
    assert measure(scores, np.arange(6))["top5"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_model_is_refused(bad: float) -> None:
    scores = np.ones((3, 3), np.float32)
    scores[1, 2] = bad
    with pytest.raises(ClipshiftError, match="diverged"):
        measure(scores, np.zeros(3, int))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A random model with its record, and a test set of 21 pictures in 7 classes."""
    folder = tmp_path_factory.mktemp("world")
    source = write_source(folder / "a", [row("a", f"{i:02d}", f"fam/{i % 7}") for i in range(21)])
    spec = TestSet(take=[Take(source="a")])
    sets.build("mine", spec, CLASSES, Holdout(fraction=0.5), {"a": source}, folder / "mine")
    text = "".join(f"{t}\n" for t in TEMPLATES)
    (folder / "mine/zeroshot_classification_templates.txt").write_text(text)
    models.register("clipshift-test", MODEL, folder)
    import open_clip

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(
        "clipshift-test", load_weights=False
    )
    torch.save(model.state_dict(), folder / "model.pt")
    record = {"run": "r-tiny-s0", "split": "r", "seed": 0, "model": "tiny", "samples_seen": 10,
              "training": {"model": MODEL, "samples": 10}}  # fmt: skip
    write_json(folder / "record.json", record)
    tokenizer = open_clip.get_tokenizer("clipshift-test")
    return {
        "folder": folder,
        "model": model.eval(),
        "preprocess": preprocess,
        "tokenizer": tokenizer,
    }


def evaluate(world: dict[str, Any], out: Path, **keys: Any) -> dict[str, Any]:
    folder = world["folder"]
    spec = Evaluation(templates=TEMPLATES, **{"batch": 8, **keys})
    where = {"mine": (folder / "mine", folder / "mine/test/0.tar")}
    evaluate_run(folder / "record.json", folder / "model.pt", where, spec, out)
    result: dict[str, Any] = read_json(out)
    return result


def test_same_numbers_as_clip_benchmark(world: dict[str, Any], tmp_path: Path) -> None:
    data = build_dataset(
        "wds/mine", root=str(world["folder"] / "mine"), split="test",
        transform=world["preprocess"], task="zeroshot_classification",
    )  # fmt: skip
    # Not its `evaluate`: that ends in a float() of an array, which numpy 2.4 refuses.
    classifier = zeroshot_classification.zero_shot_classifier(
        world["model"], world["tokenizer"], data.classes, data.templates, "cpu", amp=False
    )
    loader = torch.utils.data.DataLoader(data.batched(8), batch_size=None)
    logits, labels = zeroshot_classification.run_classification(
        world["model"], classifier, loader, "cpu", amp=False
    )
    top = logits.topk(5).indices == labels[:, None]  # (N, 5)
    recall = balanced_accuracy_score(labels, logits.argmax(1))
    ours = evaluate(world, tmp_path / "r.json")["sets"]["mine"]
    assert ours["n"] == 21
    assert ours["top1"] == pytest.approx(float(top[:, 0].float().mean()))
    assert ours["top5"] == pytest.approx(float(top.any(1).float().mean()))
    assert ours["mean_per_class_recall"] == pytest.approx(recall)
    assert 0 < ours["top5"] < 1, "the example must tell right from wrong"


def test_predictions_and_exports_hold_the_same_numbers(
    world: dict[str, Any], tmp_path: Path
) -> None:
    result = evaluate(world, tmp_path / "r.json")
    entry = result["sets"]["mine"]
    rows = pq.read_table(tmp_path / result["predictions"]).to_pylist()
    assert sum(r["correct"] for r in rows) == entry["correct"]
    assert all(r["correct"] == (r["label"] == r["predicted"]) for r in rows)
    table = pq.read_table(world["folder"] / "mine/samples.parquet").to_pylist()
    names = {r["key"]: r["class_name"] for r in table}
    assert {r["key"]: entry["classes"][r["label"]] for r in rows} == names
    # CLIP_benchmark's own program joins the exported files into its table.
    table_file = tmp_path / "benchmark.csv"
    folder = str(tmp_path / "clip_benchmark/r")
    main_build(argparse.Namespace(files=[folder], output=str(table_file)))
    (row,) = csv.DictReader(table_file.open(newline=""))
    assert row["dataset"] == "wds/mine"
    assert float(row["acc1"]) == entry["top1"]
    line = json.loads((tmp_path / "r.results.jsonl").read_text())
    assert line["mine-zeroshot-val-top1"] == entry["top1"]


def test_batch_size_moves_no_prediction(world: dict[str, Any], tmp_path: Path) -> None:
    """21 pictures in batches of 21, 7 (whole) and 4 (with a rest)."""
    tables = []
    for batch in (21, 7, 4):
        result = evaluate(world, tmp_path / f"{batch}.json", batch=batch)
        tables.append(pq.read_table(tmp_path / result["predictions"]).select(["key", "predicted"]))
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


def test_same_inputs_give_the_same_bytes(world: dict[str, Any], tmp_path: Path) -> None:
    for name in "ab":
        evaluate(world, tmp_path / name / "r.json")
    files = [f for f in (tmp_path / "a").rglob("*") if f.is_file()]
    assert len(files) == 4
    for file in files:
        again = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert file.read_bytes() == again.read_bytes()


def test_words_replace_the_class_name(world: dict[str, Any], tmp_path: Path) -> None:
    plain = evaluate(world, tmp_path / "a.json")["sets"]["mine"]
    named = evaluate(world, tmp_path / "b.json", words={"thing 0": ["thing 0"]})["sets"]["mine"]
    other = evaluate(world, tmp_path / "c.json", words={"thing 0": ["cat", "dog"]})["sets"]["mine"]
    assert plain == named != other
    assert other["words"]["thing 0"] == ["cat", "dog"]
    assert other["words"]["thing 1"] == ["thing 1"]


@pytest.mark.parametrize("damage", ["other model", "truncated", "no weights"])
def test_weights_that_do_not_fit_are_refused(
    world: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "model.pt"
    if damage == "other model":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    else:
        data = (world["folder"] / "model.pt").read_bytes()
        path.write_bytes(data[:1000] if damage == "truncated" else b"not weights")
    with pytest.raises(ClipshiftError, match=r"model\.pt is no model of this configuration"):
        models.load("clipshift-test", MODEL, path, tmp_path)
