"""Sweeps of splits and classifiers: names and order, faults, and shipped configurations."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config
from clipshift.study.config.sweeps import label
from tests.conftest import ROOT

STUDY = yaml.safe_load((Path(__file__).parent / "study.yaml").read_text()) | {"figures": {}}


def study(splits: str, **changes: Any) -> Config:
    return parse(STUDY | {"splits": yaml.safe_load(splits)} | changes)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (0.4, "40"),
        (1.0, "100"),
        (0.03125, "3p125"),
        (1e-5, "0p001"),
        (-0.02, "m2"),
        (0, "0"),
        (256, "256"),
        (4096, "4096"),
        (5000, "5k"),
        (250_000, "250k"),
        (1_234_000, "1234k"),
        (12_345_678, "12345678"),
        (22_500_000, "22p5M"),
        (400_000_000, "400M"),
        (2_000_000_000, "2B"),
        ("pruned_val", "pruned_val"),
        (["val", "sketch"], "val_sketch"),
    ],
)
def test_values_in_names(value: Any, name: str) -> None:
    assert label(value) == name


def test_a_sweep_is_its_splits_spelled_out() -> None:
    swept = study("near_{set}_{keep}: {recipe: near, sets: [val, sketch], keep: [0.25, 40]}")
    spelled = study(
        """
        near_val_25: {recipe: near, sets: [val], keep: 0.25}
        near_val_40: {recipe: near, sets: [val], keep: 40}
        near_sketch_25: {recipe: near, sets: [sketch], keep: 0.25}
        near_sketch_40: {recipe: near, sets: [sketch], keep: 40}
        """
    )
    assert swept == spelled
    assert list(swept.splits) == list(spelled.splits)


def test_names_of_values_may_be_given() -> None:
    splits = study(
        """
        x_{set}: {recipe: pruned, sets: {one: sketch, all: [val, sketch]}}
        full_{reference}: {recipe: full, reference: {with: true, alone: false}}
        """
    ).splits
    assert list(splits) == ["x_one", "x_all", "full_with", "full_alone"]
    assert (splits["x_one"].sets, splits["x_all"].sets) == (["sketch"], ["val", "sketch"])
    assert (splits["full_with"].reference, splits["full_alone"].reference) == (True, False)


def test_several_blocks_of_one_pattern() -> None:
    cfg = study(
        """
        "{recipe}_{keep}":
          - {recipe: [rand], keep: [0.5]}
          - {recipe: [rand], keep: [0.1, 0.2], seeds: []}
        """
    )
    assert list(cfg.splits) == ["rand_50", "rand_10", "rand_20"]
    assert cfg.trained == ["rand_50"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            "r_{kep}: {recipe: rand, keep: [0.5]}",
            "splits.r_{kep}: the block has no key for {kep}, only ['recipe', 'keep']",
        ),
        ("r_{}: {recipe: rand, keep: [0.5]}", "splits.r_{}: the block has no key for {}"),
        ("r_{keep}: {recipe: rand, keep: 0.5}", "splits.r_{keep}: {keep} needs a list in `keep`"),
        ("r_{keep}: {recipe: rand, keep: []}", "at least one"),
        ("r_{keep}: {recipe: rand, keep: {}}", "at least one"),
        ("r_{keep}: []", "splits.r_{keep}: a sweep needs a block with lists, or several blocks"),
        ("r_{keep}: 3", "splits.r_{keep}: a sweep needs a block with lists"),
        (
            "{r_50: {recipe: full}, 'r_{keep}': {recipe: rand, keep: [0.5]}}",
            "splits.r_{keep}: 'r_50' is there already (from 'r_50')",
        ),
        (
            "r_{keep}: {recipe: rand, keep: [0.5, 50]}",
            "splits.r_{keep}: 'r_50' is there already (from 'r_{keep}')",
        ),
        (
            "x_{reference}: {recipe: full, reference: [true, false]}",
            "splits.x_{reference}: True has no short name",
        ),
        ("r_{keep}: {recipe: rand, keep: [-1]}", "splits.r_m1.keep (of 'r_{keep}'): "),
        (
            "r_{keep}: {recipe: rand, keep: [0.5], sed: 1}",
            "splits.r_50.sed (of 'r_{keep}'): unknown key; did you mean 'seed'?",
        ),
        ("r_{keep}: {recipe: rand, keep: [a-b]}", "splits.r_a-b (of 'r_{keep}'): String should"),
        ("r_{keep: {recipe: rand, keep: 0.5}", "splits.r_{keep: String should match pattern"),
        ("rand: {recipe: rand, keep: [0.5]}", "splits.rand.keep: "),
        ("rand: [{recipe: rand, keep: 0.5}]", "splits.rand: Input should be a valid dictionary"),
    ],
)
def test_faults(splits: str, message: str) -> None:
    with pytest.raises(ClipshiftError) as error:
        study(splits)
    assert message in str(error.value)


def test_fault_names_the_file_that_holds_the_sweep(tmp_path: Path) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text(yaml.safe_dump(STUDY))
    b.write_text("splits: {'r_{keep}': {recipe: rand, keep: [0.5], sed: 1}}\n")
    for files in ([a, b], [b, a]):
        with pytest.raises(ClipshiftError) as error:
            load(*files)
        assert f"{b}: splits.r_50.sed (of 'r_{{keep}}'): unknown key" in str(error.value)
    b.write_text("splits: {'r_{kep}': {recipe: rand, keep: [0.5]}}\n")
    with pytest.raises(ClipshiftError) as error:
        load(b, a)
    assert f"{b}: splits.r_{{kep}}: the block has no key" in str(error.value)


CURVE = {"baseline": "full", "lines": {"rand": ["r_10", "r_*"]}, "sets": ["sketch"]}
SPLITS = """
full: {recipe: full}
r_{keep}: [{recipe: rand, keep: [0.5, 0.1]}, {recipe: rand, keep: [0.2], seeds: []}]
"""


def test_figures_name_trained_splits_by_a_pattern() -> None:
    cfg = study(SPLITS, figures={"accuracy_vs_pruned": {"x": CURVE}})
    assert cfg.figures.accuracy_vs_pruned["x"].lines == {"rand": ["r_10", "r_50"]}


def test_resharding_names_trained_splits_by_a_pattern() -> None:
    cfg = study(SPLITS, reshard={"some": {"splits": ["r_*", "full"]}})
    assert cfg.reshard["some"].splits == ["r_50", "r_10", "full"]


def test_a_pattern_that_no_split_fits() -> None:
    curve = CURVE | {"lines": {"near": ["near_*"]}}
    message = r"figures\.accuracy_vs_pruned\.x\.lines\.near: no split that is trained fits 'near_"
    with pytest.raises(ClipshiftError, match=message):
        study(SPLITS, figures={"accuracy_vs_pruned": {"x": curve}})


DOMAINS = """
name: d
labels: {datasets: [small], table: {photo: natural, drawing: rendition}}
natural: probe
rendition: probe_5k_own
classifiers:
  probe: {kind: linear, encoder: lite0}
  probe_{size}_{balanced}:
    {kind: linear, encoder: lite0, balanced: {own: false, even: true}, size: [2500, 5000]}
"""


def with_classifiers(changed: str = "", figures: Any = None) -> Config:
    domains = yaml.safe_load(DOMAINS)
    domains["classifiers"] |= yaml.safe_load(changed) or {}
    return study("full: {recipe: full}", domains=domains, figures=figures or {})


def test_a_sweep_of_classifiers() -> None:
    cfg = with_classifiers()
    assert cfg.domains
    made = {n: (c.size, c.balanced) for n, c in cfg.domains.classifiers.items()}  # type: ignore[attr-defined]
    assert made == {
        "probe": (None, False),
        "probe_2p5k_own": (2500, False),
        "probe_5k_own": (5000, False),
        "probe_2p5k_even": (2500, True),
        "probe_5k_even": (5000, True),
    }


def test_figures_name_classifiers_by_a_pattern() -> None:
    cfg = with_classifiers(
        figures={"domain_curves": {"x": {"classifiers": ["probe_5k_*", "probe", "probe*"]}}}
    )
    assert cfg.figures.domain_curves["x"].classifiers == [
        "probe_5k_own", "probe_5k_even", "probe", "probe_2p5k_own", "probe_2p5k_even"
    ]  # fmt: skip
    message = r"figures\.domain_curves\.x\.classifiers: no classifier fits 'full\*'"
    with pytest.raises(ClipshiftError, match=message):
        with_classifiers(figures={"domain_curves": {"x": {"classifiers": ["full*"]}}})


@pytest.mark.parametrize(
    ("classifiers", "message"),
    [
        (
            "a_{size}: {kind: linear, encoder: lite0, size: [5000], sise: 1}",
            "domains.classifiers.a_5k.sise (of 'a_{size}'): unknown key; did you mean 'size'?",
        ),
        (
            "a_{sizes}: {kind: linear, encoder: lite0, size: [5000]}",
            "domains.classifiers.a_{sizes}: the block has no key for {sizes}, only",
        ),
        (
            "{a_5k: {kind: linear}, 'a_{size}': {kind: linear, encoder: lite0, size: [5000]}}",
            "domains.classifiers.a_{size}: 'a_5k' is there already (from 'a_5k')",
        ),
    ],
)
def test_faults_of_classifiers(classifiers: str, message: str) -> None:
    with pytest.raises(ClipshiftError) as error:
        with_classifiers(classifiers)
    assert message in str(error.value)


# Recorded from the configurations in which every split was spelled out; an edit that adds or
# changes a split or a figure records another one.
SPELLED = {
    "laion400m.yaml": "2dcd1d17630bd587538eb166041b008ada3dc97425d947ee1587d6eab0d90bc3",
    "rehearsal.yaml": "8cdb76439e4c3fc38b7df4256e42244e5cb622a387edf7fce1168fdfaa4b4e9c",
}


@pytest.mark.parametrize("name", SPELLED)
def test_shipped_configurations_mean_what_they_spelled_out(name: str) -> None:
    cfg = load(ROOT / "config" / name)
    dump = cfg.model_dump(mode="json", exclude_defaults=True, include={"splits", "figures"})
    text = json.dumps([dump, cfg.trained], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == SPELLED[name]
