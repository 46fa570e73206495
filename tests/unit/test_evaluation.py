"""Zero-shot evaluation against CLIP_benchmark's own metrics on a tiny random model."""

import argparse
import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_benchmark.cli import main_build
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_classification
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json
from clipshift.datasets import labelled_set, prompts
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample, read_tar
from clipshift.evaluation import logits
from clipshift.evaluation.logits import Files, How
from clipshift.evaluation.summary import export, single
from clipshift.evaluation.views import Predictions, measure, read, view
from clipshift.similarity import open_clip_models
from clipshift.study.config.data import Holdout, Take, TestSet
from tests.conftest import row, write_source
from tests.unit.logits_case import said as stored

CLASSES = {f"thing {i}": [f"fam/{i}"] for i in range(7)}
TEMPLATES = ["{c}", "a drawing of a {c}"]
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def said(scores: np.ndarray, labels: np.ndarray, folder: Path) -> Path:
    return stored(folder / "set/r-m-s0.parquet", scores, labels)


def test_measure_against_a_hand_count(tmp_path: Path) -> None:
    scores = np.array([[9, 1, 0], [1, 9, 0], [0, 9, 1], [9, 0, 1], [0, 1, 9]], np.float32)
    found = measure(read(said(scores, np.array([0, 0, 1, 1, 1]), tmp_path)))
    assert (found["n"], found["correct"], found["top1"]) == (5, 2, 0.4)
    assert found["mean_per_class_recall"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["top1_low"] < 0.4 < found["top1_high"]


def test_ties_go_to_the_lower_class(tmp_path: Path) -> None:
    scores = np.ones((4, 7), np.float32)
    assert measure(read(said(scores, np.array([0, 0, 0, 1]), tmp_path)))["correct"] == 3
    assert measure(read(said(scores, np.array([4, 4, 5, 6]), tmp_path)))["top5"] == 0.5


def test_top5_needs_more_than_five_classes(tmp_path: Path) -> None:
    assert measure(read(said(np.eye(5), np.arange(5), tmp_path)))["top5"] is None
    scores = np.tile(np.arange(6, 0, -1, dtype=np.float32), (6, 1))
    found = measure(read(said(scores, np.arange(6), tmp_path)))
    assert found["top5"] == pytest.approx(5 / 6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_diverged_model_is_refused(bad: float, tmp_path: Path) -> None:
    scores = np.ones((3, 3), np.float32)
    scores[1, 2] = bad
    with pytest.raises(ClipshiftError, match=r"r-m-s0 gives NaN.*diverged"):
        said(scores, np.zeros(3, int), tmp_path)
    assert not list(tmp_path.rglob("*.*"))


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 30))
def test_every_view_equals_the_models_own_answer(seed: int, classes: int, images: int) -> None:
    """On a subset of images and classes, with many ties: scores cut out and ranked anew."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (images, classes)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    some = np.sort(rng.permutation(classes)[: rng.integers(1, classes + 1)])
    keys = [f"k{i:04d}" for i in range(images)]
    kept = {key for key in keys if rng.random() < 0.6}
    with tempfile.TemporaryDirectory() as folder:
        rows = said(scores, labels, Path(folder))
        for wanted in (None, kept):
            seen = view(rows, wanted, some.tolist())
            here = [
                i for i, key in enumerate(keys)
                if labels[i] in some and (wanted is None or key in wanted)
            ]  # fmt: skip
            assert seen.keys.tolist() == [keys[i] for i in here]
            assert seen.classes == [f"c{i}" for i in some]
            own = [some[int(np.argmax(scores[i, some]))] for i in here]
            assert seen.predicted.tolist() == own
            assert seen.correct.tolist() == [o == labels[i] for o, i in zip(own, here, strict=True)]
            order = [sorted(some, key=lambda c, i=i: (-scores[i, c], c)) for i in here]
            assert seen.rank.tolist() == [
                o.index(labels[i]) for o, i in zip(order, here, strict=True)
            ]
        whole = view(rows, None, range(classes))
        assert whole.rank.tolist() == read(rows).rank.tolist()


def test_classes_that_are_one_have_its_largest_score(tmp_path: Path) -> None:
    """As ObjectNet's, of which some are several of ImageNet's."""
    scores = np.array([[0, 5, 4, 3], [1, 0, 9, 8], [2, 1, 0, 3], [7, 0, 0, 1]], np.float32)
    rows = said(scores, np.array([3, 0, 1, 2]), tmp_path)
    seen = view(rows, None, [[1], [3, 0]])  # the image of class 2 is not seen
    assert seen.keys.tolist() == ["k0000", "k0001", "k0002"]
    assert seen.classes == ["c1", "c3 or c0"]
    assert (seen.label.tolist(), seen.predicted.tolist()) == ([3, 3, 1], [1, 3, 3])
    assert seen.rank.tolist() == [1, 0, 1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A random model with its record, and a test set of 21 images in 7 classes."""
    folder = tmp_path_factory.mktemp("world")
    source = write_source(folder / "a", [row("a", f"{i:02d}", f"fam/{i % 7}") for i in range(21)])
    spec = TestSet(take=[Take(source="a")])
    labelled_set.build("mine", spec, CLASSES, Holdout(fraction=0.5), {"a": source}, folder / "mine")
    text = "".join(f"{t}\n" for t in TEMPLATES)
    (folder / "mine/zeroshot_classification_templates.txt").write_text(text)
    open_clip_models.register("clipshift-test", MODEL, folder)
    import open_clip

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(
        "clipshift-test", load_weights=False
    )
    torch.save(model.state_dict(), folder / "model.pt")
    record = {"run": "r-tiny-s0", "split": "r", "seed": 0, "model": "tiny", "samples_seen": 10,
              "split_samples": 5, "training": {"model": MODEL, "samples": 10}}  # fmt: skip
    write_json(folder / "record.json", record)
    tokenizer = open_clip.get_tokenizer("clipshift-test")
    return {
        "folder": folder,
        "model": model.eval(),
        "preprocess": preprocess,
        "tokenizer": tokenizer,
    }


def evaluate(
    world: dict[str, Any], out: Path, batch: int = 8, words: dict[str, list[str]] | None = None
) -> Predictions:
    folder = world["folder"]
    write_json(folder / "mine/words.json", words or {})
    tests = {"mine": files(folder, out / "mine")}
    logits.evaluate(folder / "record.json", folder / "model.pt", tests, How(batch))
    return read(out / "mine/r-tiny-s0.parquet")


def files(folder: Path, out: Path) -> Files:
    tar = str(folder / "mine/test/0.tar")
    return Files(folder / "mine", tar, None, out / "r-tiny-s0.parquet")


WORDS = {"thing 0": ["apple", "pear"], "thing 3": ["a red chair"]}


@pytest.mark.parametrize("words", [{}, WORDS], ids=["names", "words"])
def test_same_numbers_as_clip_benchmark(
    world: dict[str, Any], tmp_path: Path, words: dict[str, list[str]]
) -> None:
    ours = measure(evaluate(world, tmp_path, words=words))
    folder, exported = world["folder"] / "mine", tmp_path / "prompts.json"
    given = folder / "zeroshot_classification_templates.txt"
    prompts.export("mine", folder / "classnames.txt", given, folder / "words.json", exported)
    data = build_dataset(
        "wds/mine", root=str(folder), split="test", transform=world["preprocess"],
        task="zeroshot_classification", custom_template_file=str(exported) if words else None,
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
    assert ours["n"] == 21
    assert ours["top1"] == pytest.approx(float(top[:, 0].float().mean()))
    assert ours["top5"] == pytest.approx(float(top.any(1).float().mean()))
    assert ours["mean_per_class_recall"] == pytest.approx(recall)
    assert 0 < ours["top5"] < 1, "the example must tell right from wrong"


def test_labels_and_exports_hold_the_same_numbers(world: dict[str, Any], tmp_path: Path) -> None:
    seen = evaluate(world, tmp_path)
    table = pq.read_table(world["folder"] / "mine/samples.parquet").to_pylist()
    names = {r["key"]: r["class_name"] for r in table}
    assert {k: seen.classes[i] for k, i in zip(seen.keys, seen.label, strict=True)} == names
    assert np.load(tmp_path / "mine/r-tiny-s0.npy").shape == (21, 7)
    result = single({"mine": seen})
    export(tmp_path / "clip_benchmark/r", tmp_path / "r.results.jsonl", result)
    # CLIP_benchmark's own program joins the exported files into its table.
    table_file = tmp_path / "benchmark.csv"
    folder = str(tmp_path / "clip_benchmark/r")
    main_build(argparse.Namespace(files=[folder], output=str(table_file)))
    (row,) = csv.DictReader(table_file.open(newline=""))
    assert row["dataset"] == "wds/mine"
    assert float(row["acc1"]) == result["sets"]["mine"]["top1"]
    line = json.loads((tmp_path / "r.results.jsonl").read_text())
    assert line["mine-zeroshot-val-top1"] == result["sets"]["mine"]["top1"]


def test_batch_size_moves_no_prediction(world: dict[str, Any], tmp_path: Path) -> None:
    """21 images in batches of 21, 7 (whole) and 4 (with a rest)."""
    found = [evaluate(world, tmp_path / str(batch), batch=batch) for batch in (21, 7, 4)]
    for one in found[1:]:
        assert one.predicted.tolist() == found[0].predicted.tolist()


def test_a_set_is_the_same_bytes_whatever_sets_are_with_it(
    world: dict[str, Any], tmp_path: Path
) -> None:
    evaluate(world, tmp_path / "alone")
    folder = world["folder"]
    both = {name: files(folder, tmp_path / "two" / name) for name in ("other", "mine")}
    logits.evaluate(folder / "record.json", folder / "model.pt", both, How(8))
    made = sorted((tmp_path / "alone/mine").iterdir())
    assert [f.suffix for f in made] == [".json", ".npy", ".parquet"]
    for file in made:
        assert file.read_bytes() == (tmp_path / "two/mine" / file.name).read_bytes()


def test_words_replace_the_class_name(world: dict[str, Any], tmp_path: Path) -> None:
    plain = evaluate(world, tmp_path / "a")
    named = evaluate(world, tmp_path / "b", words={"thing 0": ["thing 0"]})
    other = evaluate(world, tmp_path / "c", words={"thing 0": ["cat", "dog"]})
    scores = [np.load(tmp_path / f"{n}/mine/r-tiny-s0.npy") for n in "abc"]
    assert np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[0], scores[2])
    assert plain.record == named.record != other.record
    assert other.record["words"]["thing 0"] == ["cat", "dog"]
    assert other.record["words"]["thing 1"] == ["thing 1"]


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
    with pytest.raises(
        ClipshiftError, match=r"model\.pt (does not fit this model|is no readable file)"
    ):
        open_clip_models.load("clipshift-test", MODEL, path, tmp_path)


def test_damaged_images_are_left_out_of_every_number(world: dict[str, Any], tmp_path: Path) -> None:
    """Those of the others are what they were; more than the share allows is an error."""
    whole, folder = evaluate(world, tmp_path / "whole"), world["folder"]
    samples = list(read_tar(folder / "mine/test/0.tar"))
    for broken in (1, 3):
        tar = tmp_path / f"{broken}.tar"
        write_tar(
            tar,
            [
                Sample(s.key, s.parts | ({"jpg": s.image[:200]} if i < broken else {}))
                for i, s in enumerate(samples)
            ],
        )
        tests = {"mine": Files(folder / "mine", str(tar), None, tmp_path / f"{broken}/r.parquet")}
        names = sorted(s.key for s in samples[:broken])
        if broken > 1:
            with pytest.raises(
                ClipshiftError, match=f"3 of 21 images of the set mine .*{names[0]}"
            ):
                logits.evaluate(folder / "record.json", folder / "model.pt", tests, How(8))
            continue
        logits.evaluate(folder / "record.json", folder / "model.pt", tests, How(8))
        found = read(tmp_path / f"{broken}/r.parquet")
        assert measure(found)["n"] == 20
        assert found.record["left_out"] == {names[0]: "undecodable image"}
        assert found.predicted.tolist() == whole.of(names, inside=False).predicted.tolist()
        assert "left_out" not in whole.record
