"""What a study means by its names: what changes a definition, and what does not."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config
from clipshift.study.definitions import Definitions, definitions
from tests.conftest import ROOT

# Keys of a study that are part of no definition, for no file of a name of its own depends on them.
# `scale` changes the others before anything reads them.
NOWHERE = {"study", "data", "seeds", "model", "costs", "scale"}
# Those that name what a split, a run or an encoder refers to.
CHOICES = {"pool", "reference", "encoder"}
DEFINED = {
    "packages", "sources", "rendering", "classes", "holdout", "pools", "sets", "encoders",
    "reference_caption", "dedup", "neighbours", "splits", "models", "evaluation", "domains",
    "causes", "figures", "robustness", "test_images", "agree", "reshard",
}  # fmt: skip
MINI = "mini.yaml", "mini-full.yaml", "mini-domains.yaml", "mini-causes.yaml"


def shipped(*names: str) -> Definitions:
    return definitions(load(*(ROOT / "config" / name for name in names)))


def changed(one: Definitions, other: Definitions) -> dict[str, set[str]]:
    """Names of both with another definition, by kind."""
    found = {
        kind: {n for n in names.keys() & other.get(kind, {}).keys() if names[n] != other[kind][n]}
        for kind, names in one.items()
    }
    return {kind: names for kind, names in found.items() if names}


def after(change: Callable[[dict[str, Any]], Any]) -> dict[str, set[str]]:
    """What a change makes another definition of, in all of the mini study."""
    before = load(*(ROOT / "config" / name for name in MINI))
    raw = before.model_dump(mode="json")
    change(raw)
    return changed(definitions(before), definitions(parse(raw)))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,
        lambda c: c.update(study="other", data="/elsewhere"),
        lambda c: c["costs"].update(gpus=3),
        lambda c: c["evaluation"].update(undecodable=0.2),
        lambda c: c.update(seeds=[0, 1, 7]),
        lambda c: c["splits"]["full"].update(seeds=[0]),
        lambda c: c["figures"].update(contrasts=[]),
        lambda c: c["classes"].update(instrument=["instruments/strings"]),
        lambda c: c["sets"].update(more=c["sets"]["val"]),
        lambda c: [c.update({k: dict(reversed(c[k].items()))}) for k in ("sources", "splits")],
        lambda c: c["splits"].pop("near_sketch_90") and c.update(figures={}),
    ],
    ids=["nothing", "where", "costs", "damage", "seeds", "own seeds", "contrasts", "class", "set",
         "order", "gone"],
)  # fmt: skip
def test_what_changes_no_definition(change: Any) -> None:
    assert after(change) == {}


def test_a_set_changes_what_it_drives_and_nothing_else() -> None:
    found = after(lambda c: c["sets"]["rendition"]["take"][0].update(limit=100))
    driven = {s for s, b in load(ROOT / "config/mini.yaml").splits.items()
              if "rendition" in getattr(b, "sets", [])}  # fmt: skip
    more = {"near_rendition_70", "near_rendition_40", "far_rendition_70", "far_rendition_40"}
    assert found["sets"] == {"rendition"}
    assert found["splits"] == driven | more
    assert found["clean"] == {"mini/rendition_rendition", "mini/rendition_same"}
    assert {run.split("-")[0] for run in found["runs"]} == found["splits"]
    untouched = {"packages", "sources", "pools", "models", "dedup", "margins", "heads", "figures"}
    assert not found.keys() & untouched


def test_a_package_changes_all_that_is_drawn_from_it() -> None:
    found = after(lambda c: c["packages"]["fluent_3d"].update(version="9"))
    assert found["sources"] == {"fluent_3d"}
    assert (found["pools"], found["sets"]) == ({"mini"}, {"rendition"})
    assert len(found["splits"]) == len(shipped(*MINI)["splits"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["rendering"].update(px=100), {"sources", "pools", "sets", "splits", "runs"}),
        (lambda c: c["rendering"].update(background="#000000"),
         {"sources", "embeddings", "runs", "evaluations"}),
        (lambda c: c["classes"]["food"].append("openclipart/food"), {"pools", "splits", "runs"}),
        (lambda c: c["holdout"].update(seed=3), {"pools", "sets", "splits", "runs"}),
        (lambda c: c["dedup"].update(threshold=0.9), {"dedup", "splits", "runs", "encoders"}),
        (lambda c: c["dedup"].update(check=7), {"dedup_records"}),
        (lambda c: c["neighbours"].update(k=3), {"neighbours"}),
        (lambda c: c["models"]["tiny"].update(lr=1), {"models", "runs", "evaluations"}),
        (lambda c: c.update(reference_caption="{class}"), {"reference_captions", "runs"}),
        (lambda c: c["evaluation"].update(templates=["a {c}"]), {"prompts"}),
        (lambda c: c["domains"].update(precision=0.9), {"domains", "clean", "splits", "runs"}),
        (lambda c: c["domains"].update(draws=200), {"compositions"}),
        (lambda c: c["causes"]["fields"]["noto"].update(title="x"), {"captions", "runs"}),
        (lambda c: c["causes"]["heads"]["one"].update(words=True), {"heads", "evaluations"}),
        (lambda c: c["causes"]["matchers"]["named"].update(multi="all"), {"corpora", "heads"}),
        (lambda c: c["figures"]["ruler"]["sketch"].update(steps=5), {"figures"}),
    ],
)  # fmt: skip
def test_a_block_changes_what_is_made_of_it(change: Any, expected: set[str]) -> None:
    assert expected <= after(change).keys()


def test_narrow_blocks_change_nothing_else() -> None:
    assert after(lambda c: c["neighbours"].update(k=3)).keys() == {"neighbours"}
    assert after(lambda c: c["figures"]["ruler"]["sketch"].update(steps=5)) == {
        "figures": {"ruler_sketch"}
    }
    lr = after(lambda c: c["models"]["tiny_short"].update(lr=1))
    assert lr["models"] == {"tiny_short"}
    assert "splits" not in lr


def test_resharded_tars_are_another_order_for_the_trainings_that_read_them() -> None:
    found = after(lambda c: c.update(reshard={"two": {"splits": ["rand_70", "rand_40"]}}))
    assert {run.split("-")[0] for run in found["runs"]} == {"rand_70", "rand_40"}
    assert "splits" not in found
    raw = load(*(ROOT / "config" / name for name in MINI)).model_dump(mode="json")
    both = [definitions(parse(raw | {"reshard": {"two": {"splits": s}}}))["reshards"]
            for s in (["rand_70"], ["rand_70", "rand_40"])]  # fmt: skip
    assert both[0] != both[1]


def test_a_control_follows_the_split_that_it_is_as_large_as() -> None:
    found = after(lambda c: c["splits"]["pruned_sketch"].update(tolerance=0.2))
    assert found["splits"] == {"pruned_sketch", "rand_as_pruned"}


def test_every_key_of_a_study_is_accounted_for() -> None:
    """A new key: add it to `definitions` where files depend on it, and here in any case."""
    assert Config.model_fields.keys() == NOWHERE | CHOICES | DEFINED


def test_a_default_that_is_written_out_is_the_same_definition() -> None:
    raw = yaml.safe_load((ROOT / "config/test.yaml").read_text())
    raw["splits"]["test_rand"]["seed"] = 0
    raw["rendering"]["quality"] = 95
    assert definitions(parse(raw)) == shipped("test.yaml")


def test_shipped_studies_share_a_folder() -> None:
    """Two studies in one checkout share a name only where they mean the same by it."""
    whole = ["laion400m", "test", "imagenet_captions", "yfcc15m"]
    studies = [shipped(*MINI), *(shipped(f"{name}.yaml") for name in whole)]
    for one, other in itertools.combinations(studies, 2):
        assert changed(one, other) == {}


@pytest.mark.parametrize("overlay", [*MINI[2:], "mini-urls.yaml"])
def test_overlays_redefine_nothing(overlay: str) -> None:
    assert changed(shipped("mini.yaml"), shipped("mini.yaml", overlay)) == {}


def test_the_fuller_study_redraws_figures_only() -> None:
    found = changed(shipped("mini.yaml"), shipped("mini.yaml", "mini-full.yaml"))
    assert found == {"figures": {"accuracy_vs_pruned_sketch", "accuracy_vs_pruned_sketch_share"}}


def test_a_study_of_folders_has_definitions_of_its_embeddings() -> None:
    found = shipped("rehearsal.yaml")
    assert "released/rehearsal" in found["embeddings"]
    raw = load(ROOT / "config/rehearsal.yaml").model_dump(mode="json")
    raw["encoders"]["released"]["folders"]["v2"] = "elsewhere"
    moved = changed(found, definitions(parse(raw)))
    assert moved["embeddings"] == {"released/v2"}
    assert moved["splits"] == {"pruned_v2", "pruned_combined", "core_50", "rand_as_pruned"}
