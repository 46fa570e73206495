"""Records of the studies of a folder, and what is said of differences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.study import shared_folder
from clipshift.study.config.load import parse
from clipshift.study.config.study import Config
from tests.conftest import ROOT


def study(name: str = "test", change: Callable[[dict[str, Any]], Any] = lambda c: None) -> Config:
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text()) | {"study": name}
    change(raw)
    return parse(raw)


def narrow(raw: dict[str, Any]) -> None:
    raw.update(splits={"test_full": {"recipe": "full"}}, figures={})


def refusal(cfg: Config, folder: Path) -> str:
    with pytest.raises(ClipshiftError) as error:
        shared_folder.check(cfg, folder)
    return str(error.value)


def test_nothing_is_said_without_a_record_or_a_change(tmp_path: Path) -> None:
    assert shared_folder.check(study(), tmp_path / "none") == ""
    shared_folder.save(study(), tmp_path)
    assert shared_folder.check(study(), tmp_path) == ""
    assert shared_folder.check(study("other"), tmp_path) == ""


def test_the_same_record_has_the_same_bytes(tmp_path: Path) -> None:
    shared_folder.save(study(), tmp_path)
    first = (tmp_path / "test.json").read_bytes()
    shared_folder.save(study(change=narrow), tmp_path)
    assert (tmp_path / "test.json").read_bytes() == first, "what is gone keeps its definition"
    assert json.loads(first)["study"] == "test"


def test_causes_are_named_and_what_follows_is_counted(tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["sets"]["test_val"]["minimum_per_class"] = 2
        raw["models"]["nano"]["lr"] = 0.5

    shared_folder.save(study(), tmp_path)
    text = refusal(study("other", change), tmp_path)
    assert "  study test: sets test_val; models nano; and what follows from them: " in text
    assert ", 2 splits, 6 runs, 6 evaluations\n" in text
    assert text.endswith(f"delete its record: {tmp_path}/test.json")
    edited = shared_folder.check(study(change=change), tmp_path)
    assert edited.startswith("Study test, changed since its last run here: sets test_val; models")


def test_many_names_are_counted(tmp_path: Path) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["splits"] = {f"s{i}": {"recipe": "rand", "keep": 10 + i} for i in range(12)}
        raw["figures"] = {}

    def others(raw: dict[str, Any]) -> None:
        change(raw)
        for block in raw["splits"].values():
            block["seed"] = 1

    shared_folder.save(study(change=change), tmp_path)
    text = refusal(study("other", others), tmp_path)
    names = ", ".join(f"s{i}" for i in range(10))
    assert f"study test: splits {names} and 2 more; and what follows from them: 12 runs" in text


def test_every_other_study_is_named(tmp_path: Path) -> None:
    shared_folder.save(study("a"), tmp_path)
    shared_folder.save(study("b"), tmp_path)
    text = refusal(study("c", lambda c: c["holdout"].update(seed=1)), tmp_path)
    assert text.count(": pools test_pool; sets test_reference, test_val, test_sketch; ") == 2
    assert text.endswith(f"{tmp_path}/a.json {tmp_path}/b.json")


def test_a_part_that_comes_back_after_an_edit_is_named(tmp_path: Path) -> None:
    def edited(raw: dict[str, Any]) -> None:
        raw["holdout"]["seed"] = 1

    shared_folder.save(study(), tmp_path)
    shared_folder.save(study(change=lambda c: [edited(c), narrow(c)]), tmp_path)
    text = shared_folder.check(study(change=edited), tmp_path)
    assert "here: splits test_rand, test_near, test_far, test_combined, test_core; runs " in text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"definitions": []}', "[1]"])
def test_a_broken_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.json").write_text(text)
    assert "test.json is no record of a study; delete it" in refusal(study(), tmp_path)
