"""`clipshift label --study`: images, table and scores are those of the study."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from clipshift.apps.labelling.options import Options
from clipshift.apps.labelling.study import of_study
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_json
from clipshift.study.config.folders import DATA_VARIABLE
from tests.conftest import ROOT


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Study B of the test study, with labels of people for a pool and a test set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DATA_VARIABLE, "data")
    raw: dict[str, Any] = yaml.safe_load((ROOT / "config/test.yaml").read_text())
    more = yaml.safe_load((ROOT / "tests/workflow/overlays/domains.yaml").read_text())
    more = {"domains": more["domains"]}
    more["domains"]["labels"] = {"datasets": ["test_pool"], "file": "data:labels.parquet"}
    more["domains"]["benchmarks"] = {"test_val": "val-labels.parquet"}
    (tmp_path / "b.yaml").write_text(yaml.safe_dump(raw | more))
    (tmp_path / "results/pools/test_pool").mkdir(parents=True)
    (tmp_path / "results/sets/test_val/test").mkdir(parents=True)
    return tmp_path / "b.yaml"


def test_a_data_set_is_labelled_into_the_table_that_the_study_reads(study: Path) -> None:
    found = of_study(Options(study=[study]))
    assert (found.images, found.out) == (
        Path("results/pools/test_pool"),
        Path("data/labels.parquet"),
    )
    found = of_study(Options(study=[study], dataset="test_val", sample=100))
    assert (found.images, found.sample) == (Path("results/sets/test_val/test"), 100)
    assert found.out == Path("val-labels.parquet")
    with pytest.raises(ClipshiftError, match=r"data sets with one: test_pool, test_val"):
        of_study(Options(study=[study], dataset="test_sketch"))
    shutil.rmtree("results")
    with pytest.raises(ClipshiftError, match="are not there; make or download them first"):
        of_study(Options(study=[study]))


def test_uncertain_images_come_first_by_the_detector_of_the_study(study: Path) -> None:
    domains = yaml.safe_load(study.read_text())["domains"]
    home = Path(f"results/domains/{domains['name']}")
    asked = Options(study=[study], order="uncertain", score_column="natural")
    with pytest.raises(ClipshiftError, match="has not scored"):
        of_study(asked)
    scores = home / f"scores/{domains['natural']}/test_pool"
    scores.mkdir(parents=True)
    points = home / f"points/{domains['natural']}.json"
    points.parent.mkdir()
    write_json(points, {"domains": {"natural": {"threshold": 1.5}}})
    found = of_study(asked)
    assert (found.scores, found.score_column, found.threshold) == (scores, "natural", 1.5)
    with pytest.raises(ClipshiftError, match="give one of natural, rendition"):
        of_study(Options(study=[study], order="highest", score_column="photo"))
