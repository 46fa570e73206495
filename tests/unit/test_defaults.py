"""Defaults of top-level keys: the only block that can be meant, never one of several."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config

STUDY = yaml.safe_load((Path(__file__).parent / "study.yaml").read_text()) | {"figures": {}}
KEYS = ("pool", "reference", "encoder", "model", "seeds")
SHORT = {key: value for key, value in STUDY.items() if key not in KEYS}


def with_block(kind: str, name: str, block: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(SHORT)
    raw[kind][name] = block
    return raw


def fault(raw: dict[str, Any]) -> str:
    with pytest.raises(ClipshiftError) as error:
        parse(raw)
    return str(error.value)


def test_a_study_without_them_is_the_same() -> None:
    assert parse(SHORT) == parse(STUDY)


def test_splits_and_evaluation() -> None:
    cfg = parse({key: v for key, v in SHORT.items() if key not in ("splits", "evaluation")})
    assert list(cfg.splits) == cfg.trained == ["full"]
    assert cfg.splits["full"].recipe == "full"
    assert cfg.evaluation.templates == ["a photo of a {c}."]
    assert cfg.seeds == [0]


@pytest.mark.parametrize(
    ("kind", "key", "block"),
    [
        ("pools", "pool", SHORT["pools"]["small"]),
        ("sets", "reference", SHORT["sets"]["photos"]),
        ("encoders", "encoder", {"kind": "efficientnet_lite0"}),
        ("models", "model", SHORT["models"]["tiny"]),
    ],
)
def test_one_of_several_is_never_chosen(kind: str, key: str, block: dict[str, Any]) -> None:
    raw = with_block(kind, "other", block)
    names = [STUDY[key], "other"]
    assert f"  {key}: needed, as several can be meant: {names}" in fault(raw)
    assert getattr(parse(raw | {key: names[1]}), key) == "other"


def test_blocks_that_cannot_be_meant_do_not_count() -> None:
    run = {"kind": "run", "split": "full", "model": "tiny", "seed": 0}
    assert parse(with_block("encoders", "again", run)).encoder == "lite0"
    assert parse(SHORT).reference == "photos"


def test_none_that_can_be_meant() -> None:
    raw = copy.deepcopy(SHORT)
    raw["sets"]["photos"]["role"] = "test"
    text = "reference: needed, as `sets` has none that can be meant (default: the only set with"
    assert text in fault(raw)


def test_all_faults_at_once_and_their_file(tmp_path: Path) -> None:
    raw = with_block("pools", "other", SHORT["pools"]["small"]) | {"seed": 1}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ClipshiftError) as error:
        load(path)
    assert f"{path}: pool: needed" in str(error.value)
    assert f"{path}: seed: unknown key" in str(error.value)


@pytest.mark.parametrize("value", [None, 3, [], {"small": 3}])
def test_a_block_of_another_type_is_a_fault_of_its_own(value: Any) -> None:
    assert "  pools" in fault(SHORT | {"pools": value})


def test_the_typed_configuration_is_complete() -> None:
    assert Config.model_validate(parse(SHORT).model_dump()) == parse(STUDY)
