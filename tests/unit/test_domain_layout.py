"""Test sets are an axis of study B: one more, or one fewer, changes no classifier and no split."""

from collections.abc import Callable
from typing import Any

import pytest

from clipshift.study.config.load import load
from clipshift.study.config.study import Config
from clipshift.study.layout.domains import DomainLayout
from clipshift.study.layout.made import Made
from clipshift.study.layout.study import Layout
from tests.conftest import ROOT

STUDIES = {
    "mini": load(ROOT / "config/mini.yaml", ROOT / "config/mini-domains.yaml"),
    "laion": load(ROOT / "config/laion400m.yaml"),
}


class There(Made):
    """As if some files were there."""

    def __init__(self, there: Callable[[str], bool]):
        super().__init__()
        self.there = there

    def __call__(self, path: str) -> bool:
        return self.there(path)


def layout(cfg: Config, made: Callable[[str], bool] = lambda _: False) -> DomainLayout:
    return DomainLayout(Layout(cfg, There(made)))


def with_sets(cfg: Config, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Config:
    return cfg.model_copy(update={"sets": change(dict(cfg.sets))})


def last_set(cfg: Config) -> str:
    """A test set that is in no clean set, so that it can go."""
    cleaned = {clean.set for clean in cfg.domains.clean.values()} if cfg.domains else set()
    return next(iter({*cfg.test_sets} - cleaned), cfg.test_sets[-1])


CHANGES: dict[str, Callable[[Config], Config]] = {
    "added": lambda c: with_sets(c, lambda s: s | {"added": s[last_set(c)]}),
    "first": lambda c: with_sets(c, lambda s: {"added": s[last_set(c)], **s}),
    "removed": lambda c: with_sets(c, lambda s: {n: b for n, b in s.items() if n != last_set(c)}),
    "renamed": lambda c: with_sets(
        c, lambda s: {"renamed" if n == last_set(c) else n: b for n, b in s.items()}
    ),
}


def triggers(cfg: Config) -> dict[str, Any]:
    """What makes classifiers, thresholds, and splits with their decisions run again."""
    dom = layout(cfg)
    assert cfg.domains is not None
    mine = [cfg.pool, cfg.reference, *dom.labelled]
    return {
        "fit": {
            c: [dom.classifier(c), dom.fit_inputs(c), dom.vectors(c), dom.tars(c)]
            for c in cfg.domains.classifiers
        },
        "labels": {d: [cfg.domains.labels.model_dump_json(), dom.tables(d)] for d in mine},
        "points": {c: [dom.learned_scores(c), dom.parts(c)] for c in cfg.domains.classifiers},
        "verdicts": {d: [dom.detector_files(d, s) for s in dom.at.shards(d)] for d in mine},
        "splits": {
            s: [
                dom.at.recipe(s),
                dom.split_decisions(s),
                dom.at.split_margins(s),
                dom.at.split_thresholds(s),
            ]
            for s in cfg.splits
        },
    }


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("study", STUDIES)
def test_test_sets_trigger_no_classifier_and_no_split(study: str, change: str) -> None:
    cfg = STUDIES[study]
    changed = CHANGES[change](cfg)
    assert set(changed.sets) != set(cfg.sets)
    assert triggers(changed) == triggers(cfg)


@pytest.mark.parametrize("study", STUDIES)
def test_a_set_that_comes_later_is_no_input_of_a_classifier_that_is_there(study: str) -> None:
    cfg = STUDIES[study]
    changed = CHANGES["added"](cfg)
    before = layout(cfg).kept_out("any")
    assert set(layout(changed).kept_out("any")) == {*before, layout(cfg).at.table("added")}
    later = layout(changed, lambda path: "/added/" not in path)
    assert later.kept_out("any") == before != []
    assert layout(cfg, lambda _: True).kept_out("any") == before
    assert layout(cfg).waits_for("any") == before and later.waits_for("any") == []


@pytest.mark.parametrize("lacking", ["model.npz", "record.json", "parts.parquet"])
def test_a_fit_that_is_certain_keeps_every_test_set_out(lacking: str) -> None:
    cfg = CHANGES["added"](STUDIES["mini"])
    gone = (lacking, "/points/", "/added/")
    dom = layout(cfg, lambda path: not any(part in path for part in gone))
    assert dom.waits_for("any") == dom.kept_out("any") == [dom.at.table(d) for d in dom.measured]


def test_further_embeddings_of_the_user_are_no_part_of_a_classifier() -> None:
    from clipshift.similarity.encoders.folder import FolderEncoder

    cfg = STUDIES["mini"]
    assert cfg.domains is not None
    name = cfg.domains.classifiers["linear"].encoder

    def spec(folders: dict[str, str]) -> dict[str, Any]:
        encoder = FolderEncoder(kind="folder", folders=folders)
        changed = cfg.model_copy(update={"encoders": {**cfg.encoders, name: encoder}})
        return layout(changed).classifier("linear")

    own = {d: f"folder/{d}" for d in cfg.domains.labels.datasets}
    assert spec(own) == spec(own | {"added": "folder/added"})
    assert spec(own)["encoder"]["folders"] == own
