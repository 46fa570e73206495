"""Published models are targets under any study's configuration."""

from pathlib import Path

import pytest

from clipshift.study.layout.robustness import PUBLISHED_FIGURES
from tests.workflow.runner import ROOT, TEST_CONFIG, planned, snakemake

FIGURES = {"testbed_figure": len(PUBLISHED_FIGURES), "testbed_table": 1}


@pytest.mark.parametrize("study", ["test", "mini", "laion400m"])
def test_they_plan_under_every_study_and_need_nothing_of_it(tmp_path: Path, study: str) -> None:
    jobs = planned(tmp_path, "effective_robustness", config=ROOT / f"config/{study}.yaml")
    assert jobs == FIGURES | {"effective_robustness": 1}


def test_the_table_and_a_figure_are_made(tmp_path: Path) -> None:
    table = "results/tables/effective_robustness_testbed.csv"
    figure = "results/figures/testbed_clip.svg"
    snakemake(tmp_path, table, figure)
    rows = (tmp_path / table).read_text().splitlines()
    assert rows[0] == (
        "model,model_type,shift,id_accuracy,shift_accuracy,predicted,rho,rho_low,rho_high"
    )
    assert sum(row.startswith("resnet50_clip_zeroshot,MORE_DATA,") for row in rows) == 6
    log = (tmp_path / "results/logs/tables/effective_robustness_testbed.log").read_text()
    assert log.count("R2 ") == 2 * 3 * 7  # every fit is printed
    assert "rho is +5.8" in (tmp_path / "results/tables/testbed_clip.txt").read_text()
    assert planned(tmp_path, table, figure) == {}


def test_a_changed_block_draws_again(tmp_path: Path) -> None:
    target = "results/tables/effective_robustness_testbed.csv"
    snakemake(tmp_path, target)
    changed = tmp_path / "changed.yaml"
    changed.write_text("robustness: {space: probit}\n")
    words = ("--configfile", str(TEST_CONFIG), str(changed), "--rerun-triggers", "params")
    assert planned(tmp_path, *words, "--", target) == {"testbed_table": 1}
