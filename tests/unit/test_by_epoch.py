"""Evaluations after every epoch: their names, what they read, and what they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, write_json
from clipshift.core.yaml_file import read_yaml
from clipshift.evaluation import logits, protocols
from clipshift.study.config.load import parse
from clipshift.study.config.study import Config
from clipshift.study.layout.evaluation import Evaluations
from clipshift.study.layout.evaluation import parse as parsed
from clipshift.study.layout.figures import figure_files
from clipshift.study.layout.study import Layout
from tests.conftest import ROOT


def study(sets: list[str], **figures: Any) -> Config:
    raw = read_yaml(ROOT / "config/test.yaml")
    model = raw["models"]["nano"]
    del model["samples"]
    model |= {"epochs": 2, "epoch_sets": sets}
    raw["figures"] |= figures
    return parse(raw)


def test_names_and_files() -> None:
    at = Layout(study(["test_sketch"]))
    ev = Evaluations(at)
    runs = [run for split in at.cfg.trained for run in at.runs(split)]
    assert ev.by_epoch() == [f"{run}-epoch{e}" for run in runs for e in (1, 2)]
    name = "test_full-nano-s0-epoch2"
    assert (parsed(name).run, parsed(name).protocol, parsed(name).epoch) == (
        "test_full-nano-s0", None, 2,
    )  # fmt: skip
    assert ev.sets(name) == [*ev.report_sets(name)] == ["test_sketch"]
    assert ev.sets("test_full-nano-s0") == at.cfg.test_sets
    assert ev.weights(name)[1] == "results/models/test_full-nano-s0/epochs"
    assert ev.how(name)["epoch"] == 2 and "epoch" not in ev.how("test_full-nano-s0")
    pattern = ev.pattern()
    assert re.fullmatch(pattern, name) and not re.fullmatch(pattern, name[:-1] + "3")
    assert not Evaluations(Layout(study([]))).by_epoch()


def test_the_key_decides_no_weights() -> None:
    """Another set later trains nothing again."""
    two = study(["test_sketch", "test_val"]).models["nano"].of_weights()
    assert two == study(["test_sketch"]).models["nano"].of_weights()
    assert "epoch_sets" not in two.model_dump()


def test_a_figure_names_sets_that_are_evaluated() -> None:
    block = {"test": {"splits": ["test_full"], "sets": ["test_val"]}}
    at = Layout(study(["test_val"], accuracy_by_epoch=block))
    files = figure_files(at, "accuracy_by_epoch", "test")
    names = [f"results/eval/test_full-nano-s0-epoch{e}.json" for e in (1, 2)]
    assert files == {"reports": {"test_full": names}}
    at = Layout(study(["test_sketch"], accuracy_by_epoch=block))
    with pytest.raises(ClipshiftError, match=r"'test_full' lacks \['test_val'\] in its `epoch_set"):
        figure_files(at, "accuracy_by_epoch", "test")


def test_heads_leave_these_names_alone() -> None:
    raw = read_yaml(ROOT / "config/test.yaml")
    raw["causes"] = {"heads": {"epoch3": {"kind": "prompts", "templates": ["{c}"]}}}
    with pytest.raises(ClipshiftError, match=r"\['epoch3'\] are names of evaluations after an ep"):
        parse(raw)


def test_the_weights_of_the_epoch_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"run": "r", "split": "s", "seed": 0, "model": "m", "samples_seen": 96}
    record |= {
        "split_samples": 24,
        "epochs": {"1": {"samples_seen": 32}, "2": {"samples_seen": 64}},
    }
    write_json(tmp_path / "record.json", record)
    (tmp_path / "epochs").mkdir()
    for epoch in (1, 2):
        (tmp_path / f"epochs/{epoch}.pt").write_bytes(b"weights" * epoch)
    loaded: list[Path] = []
    monkeypatch.setattr(protocols, "load", lambda _, weights, *__: loaded.append(weights))
    monkeypatch.setattr(protocols, "reads_text", lambda *_: False)
    monkeypatch.setattr(protocols, "asked", lambda *_: None)
    seen = protocols.Seen(["a", "b"], np.zeros((2, 3)), {})
    monkeypatch.setattr(protocols, "features", lambda *_: seen)
    scores = np.array([[1.0, 0.0], [1.0, 0.0]])
    monkeypatch.setattr(protocols, "scorer", lambda *_: lambda *_: (scores, {"head": "own layer"}))
    monkeypatch.setattr(logits, "check_labels", lambda *_: (["x", "y"], {"a": 0, "b": 1}))
    monkeypatch.setattr(logits, "tars_of", lambda *_: [])
    tests = {"val": logits.Files(tmp_path, "none", None, tmp_path / "rows.parquet")}
    how = logits.How(batch=2, epoch=2)
    logits.evaluate(tmp_path / "record.json", tmp_path / "epochs", tests, how)
    said = read_json(tmp_path / "rows.json")
    assert loaded == [tmp_path / "epochs/2.pt"]
    assert (said["epoch"], said["samples_seen"], said["run"]) == (2, 64, "r")
    assert said["checkpoint_sha256"] == logits.sha256_file(tmp_path / "epochs/2.pt")
