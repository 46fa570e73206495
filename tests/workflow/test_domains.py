"""Study B as a workflow: what is planned, and the chain on real pictures from end to end."""

import json
import shutil
from pathlib import Path

import pytest

from clipshift.config.load import load
from clipshift.files import read_parquet
from tests.workflow.runner import ROOT, changed_config, planned, snakemake

MINI, OVERLAY = ROOT / "config/mini.yaml", ROOT / "config/mini-domains.yaml"
LAION = ROOT / "config/laion400m.yaml"
# The home of the test study's results.
HOME = "results/domains/test"
DOMAINS = {
    "name": "test",
    "labels": {
        "datasets": ["test_pool", "test_reference"],
        "table": {"photo": "natural", "flat drawing": "rendition", "line drawing": "rendition"},
        "paths": {"ambiguous": ["emoji/travel-places/sky-weather"]},
    },
    "parts": {"validation": 0.3, "test": 0.3},
    "classifiers": {
        "test_linear": {"kind": "linear", "encoder": "lite0_64"},
        "test_ratio": {"kind": "linear", "encoder": "lite0_64", "form": "density_ratio"},
    },
    "natural": "test_linear",
    "rendition": "test_ratio",
    "precision": 0.95,
    "clean": {
        "test_val_clean": {"set": "test_val", "domain": "natural"},
        "test_sketch_clean": {"set": "test_sketch", "domain": "rendition", "classes": ["animal"]},
    },
}
CHANGE = {
    "domains": DOMAINS,
    "splits.test_natural": {"recipe": "domains", "natural": 40},
    "splits.test_any": {"recipe": "domains", "random": 40},
    "figures.domain_bars": {
        "test": {
            "baseline": "test_any",
            "splits": ["test_natural"],
            "clean": ["test_val_clean", "test_sketch_clean"],
        }
    },
    "figures.domain_samples": {"test": {"datasets": ["test_pool", "test_val"], "shown": 3}},
    "figures.domain_composition": {"test": {}},
}
TARGETS = (
    "results/figures/domain_bars_test.svg",
    "results/figures/domain_samples_test.svg",
    "results/tables/domain_composition_test.csv",
    "results/report.html",
)


@pytest.fixture(scope="module")
def finished(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test study, and study B on top of it."""
    folder = tmp_path_factory.mktemp("domains") / "study"
    shutil.copytree(study, folder, symlinks=True)
    snakemake(folder, *TARGETS, config=changed_config(folder, CHANGE))
    return folder


def test_scores_and_verdicts_are_on_every_picture(finished: Path) -> None:
    for name in ("test_pool", "test_val", "test_sketch", "test_reference"):
        tables = list((finished / f"results/pools/{name}").glob("*.parquet"))
        tables += (finished / f"results/sets/{name}").glob("samples.parquet")
        keys = {k for t in tables for k in read_parquet(t)["key"].to_pylist()}
        judged = sorted((finished / f"{HOME}/verdicts/{name}").glob("*.parquet"))
        assert {k for f in judged for k in read_parquet(f)["key"].to_pylist()} == keys


def test_splits_by_domain_are_trained_and_evaluated(finished: Path) -> None:
    account = json.loads((finished / "results/splits/test_natural.json").read_text())
    assert account["out"] == account["points_kept"] == account["kept_natural"] == 40
    record = json.loads((finished / "results/models/test_natural-nano-s0/record.json").read_text())
    assert record["split_samples"] == 40 and record["samples_seen"] == 1024
    result = json.loads((finished / f"{HOME}/eval/test_natural.json").read_text())
    usual = json.loads((finished / "results/eval/test_natural.json").read_text())
    for entry in result["sets"].values():
        whole = usual["sets"][entry["set"]]
        assert entry["original"]["top1"] == pytest.approx(whole["top1"])
        assert entry["clean"]["n"] == entry["clean_restricted"]["n"] <= entry["original"]["n"]
    sketch = result["sets"]["test_sketch_clean"]
    assert sketch["clean_restricted"]["classes"] == ["animal"]
    assert sketch["clean_restricted"]["top1"] == 1  # one name left: the easiest of sets


def test_the_report_shows_the_study(finished: Path) -> None:
    page = (finished / "results/report.html").read_text()
    assert "Domains: natural images and renditions" in page
    for file in (finished / "results/tables").glob("domain_*.csv"):
        assert f"results/tables/{file.name}" in page


def test_another_precision_scores_nothing_again(finished: Path) -> None:
    config = changed_config(finished, CHANGE | {"domains": DOMAINS | {"precision": 0.9}})
    jobs = planned(finished, *TARGETS, config=config)
    assert jobs["domain_points"] == 2 and jobs["domain_verdicts"] >= 6
    again = {"domain_labels", "domain_fit", "domain_score", "embed", "pool_shard"}
    assert not again & jobs.keys()


def test_a_further_test_set_is_scored_and_nothing_else(finished: Path) -> None:
    """No classifier is fitted anew, and no threshold, other verdict, split or training follows."""
    take = [{"source": "test_black", "concepts": "held-out", "classed": True}]
    domains = DOMAINS | {"datasets": ["test_more"]}
    change = {"sets.test_more": {"role": "domain", "take": take}, "domains": domains}
    config = changed_config(finished, CHANGE | change)
    summaries = {"domain_composition", "domain_table", "report_page"}
    jobs = planned(finished, *TARGETS, config=config)
    own = {"test_set": 1, "embed": 1, "domain_labels": 1, "domain_score": 2, "domain_verdicts": 1}
    assert jobs == own | dict.fromkeys(summaries, 1)
    # It is gone again, or was there all the time: only what shows all sets follows.
    snakemake(finished, "results/tables/domain_composition_test.csv", config=config)
    assert planned(finished, TARGETS[2], config=config) == {}
    back = changed_config(finished, CHANGE)
    assert planned(finished, *TARGETS, config=back).keys() == summaries
    snakemake(finished, *TARGETS, config=back)


def test_a_second_run_has_nothing_to_do(finished: Path) -> None:
    assert planned(finished, *TARGETS, config=changed_config(finished, CHANGE)) == {}


def test_the_overlay_adds_to_the_mini_study(tmp_path: Path) -> None:
    words = ("--configfile", str(MINI), str(OVERLAY))
    more, default = planned(tmp_path, *words), planned(tmp_path, config=MINI)
    shared = ("source", "pool_shard", "margins", "embed")
    assert {r: more[r] for r in shared} == {r: default[r] for r in shared}
    assert more["train"] - default["train"] == 21
    assert more["split"] - default["split"] == 12
    assert (more["domain_fit"], more["domain_tune"]) == (6, 1)
    seeds = planned(tmp_path, *words, str(ROOT / "config/domains-more.yaml"))
    assert seeds["train"] - more["train"] == 34


def test_the_training_sets_of_the_paper() -> None:
    """26 of them, by their sizes in thousands: natural, rendition, drawn at random."""
    cfg = load(LAION)
    found = []
    for name in cfg.trained:
        split = cfg.splits[name]
        if split.recipe == "domains":
            found.append(tuple(n // 1000 for n in (*split.parts, split.random)))
            assert not split.reference and cfg.models[cfg.model_of(name)].epochs == 32
    single = [(n * 1000, 0, 0) for n in (57, 45, 30, 16)]
    mixes = [(44, 13), (41, 16), (22.5, 7.5), (15, 15), (15.75, 0.25), (15.5, 0.5), (15, 1)]
    mixes += [(14, 2), (12, 4), (8, 8), (4, 12), (0.5, 15.5), (0, 16)]
    mixes += [(8, 0), (6, 2), (4, 4), (2, 6), (0, 8)]
    expected = [*single, *((0, 0, n) for n, _, _ in single)]
    expected += [(int(1000 * n), int(1000 * r), 0) for n, r in mixes]
    assert sorted(found) == sorted(expected) and len(found) == 26


def test_study_a_does_not_wait_for_the_data_of_study_b() -> None:
    cfg = load(LAION)
    assert {n for n in cfg.domain_folders if n.startswith("dn_")} == {
        "dn_real", "dn_infograph", "dn_sketch", "dn_painting", "dn_clipart", "dn_quickdraw"
    }  # fmt: skip
    assert not {cfg.pool, cfg.reference, *cfg.test_sets} & cfg.domain_folders.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domains.natural": "nobody"}, "domains.natural: 'nobody' is not one of"),
        ({"domains.clean.test_val_clean.set": "x"}, "'x' is not one of"),
        ({"domains.labels.datasets": ["x"]}, "'x' is not one of"),
        ({"splits.test_any": {"recipe": "domains"}}, "give counts"),
        ({"domains": None}, "splits.test_natural: needs the block: 'domains'"),
    ],
)
def test_names_that_do_not_exist_stop_at_once(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    base = changed_config(tmp_path, CHANGE)
    done = snakemake(
        tmp_path, "--dry-run", config=changed_config(tmp_path, change, base), check=False
    )
    assert done.returncode != 0 and message in done.stdout, done.stdout[-2000:]
