"""Study B as a workflow: what is planned, and the chain on real images from end to end."""

import json
from pathlib import Path
from typing import get_args

import pytest

from clipshift.core.files import read_parquet
from clipshift.evaluation import by_domain
from clipshift.evaluation.views import measure, read
from clipshift.study.config.domains import Variant
from clipshift.study.config.load import load, merged
from tests.workflow.runner import ROOT, WHOLE, changed_config, planned, snakemake

MINI, OVERLAY = ROOT / "config/mini.yaml", ROOT / "config/mini-domains.yaml"
LAION = ROOT / "config/laion400m.yaml"
# The home of the test study's results.
HOME = "results/domains/test"
DOMAINS = merged(*WHOLE)["domains"]
TARGETS = (
    "results/figures/domain_bars_test.svg",
    "results/figures/domain_samples_test.svg",
    "results/tables/domain_composition_test.csv",
    "results/report.html",
)


def test_scores_and_verdicts_are_on_every_picture(whole: Path) -> None:
    for name in ("test_pool", "test_val", "test_sketch", "test_reference"):
        tables = list((whole / f"results/pools/{name}").glob("*.parquet"))
        tables += (whole / f"results/sets/{name}").glob("samples.parquet")
        keys = {k for t in tables for k in read_parquet(t)["key"].to_pylist()}
        judged = sorted((whole / f"{HOME}/verdicts/{name}").glob("*.parquet"))
        assert {k for f in judged for k in read_parquet(f)["key"].to_pylist()} == keys


def test_splits_by_domain_are_trained_and_evaluated(whole: Path) -> None:
    step_counts = json.loads((whole / "results/splits/test_natural.json").read_text())
    assert step_counts["out"] == step_counts["points_kept"] == step_counts["kept_natural"] == 40
    record = json.loads((whole / "results/models/test_natural-nano-s0/record.json").read_text())
    assert record["split_samples"] == 40 and record["samples_seen"] == 1024
    clean = {}
    for name in ("test_val", "test_sketch"):
        rows = whole / f"results/logits/{name}/test_natural-nano-s0.parquet"
        table = read_parquet(whole / f"{HOME}/clean/{name}_clean.parquet", ["key", "kept"])
        kept = set(table.filter(table["kept"])["key"].to_pylist())
        clean[name] = {v: by_domain.clean_view(rows, kept, v) for v in get_args(Variant)}
        assert measure(clean[name]["original"]) == measure(read(rows))
        sizes = [len(clean[name][v].keys) for v in ("clean", "clean_restricted", "original")]
        assert sizes[0] == sizes[1] <= sizes[2]
    sketch = clean["test_sketch"]["clean_restricted"]
    assert sketch.classes == ["animal"]
    assert measure(sketch)["top1"] == 1  # one name left: the easiest of sets


def test_the_report_shows_the_study(whole: Path) -> None:
    page = (whole / "results/report.html").read_text()
    assert "Domains: natural images and renditions" in page
    for file in (whole / "results/tables").glob("domain_*.csv"):
        assert f"results/tables/{file.name}" in page


def test_another_precision_scores_nothing_again(whole: Path, tmp_path: Path) -> None:
    config = changed_config(tmp_path, {"domains.precision": 0.9}, *WHOLE)
    jobs = planned(whole, *TARGETS, config=config)
    assert jobs["domain_points"] == 2 and jobs["domain_decisions"] >= 6
    again = {"domain_labels", "domain_fit", "domain_score", "embed", "pool_shard"}
    assert not again & jobs.keys()


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
        ({"domains": None, "figures": {}}, "test_natural: the recipe `domains` needs the block"),
    ],
)
def test_names_that_do_not_exist_stop_at_once(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = changed_config(tmp_path, change, *WHOLE)
    done = snakemake(tmp_path, "--dry-run", config=config, check=False)
    assert done.returncode != 0 and message in done.stdout, done.stdout[-2000:]
