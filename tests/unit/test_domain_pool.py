"""Study B on a part of the pool, and people's labels of test sets."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from clipshift.classifiers import (
    classifier,
    clean_set,
    composition,
    decisions,
    domain_labels,
    score,
    thresholds,
)
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_parquet, write_text
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from clipshift.figures.kinds import domain_clean
from clipshift.figures.kinds.domain_clean import CleanTable
from clipshift.splits.split import keys_kept
from clipshift.study.config.domains import Clean, Labels
from clipshift.study.config.load import load
from clipshift.study.config.study import Config
from clipshift.study.layout.domains import DomainLayout
from clipshift.study.layout.study import Layout
from tests.conftest import ROOT
from tests.unit.domains_case import ENCODER, LABELS, PARTS, Case, make_case, run_case

MINI = (ROOT / "config/mini.yaml", ROOT / "config/mini-domains.yaml")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = make_case(tmp_path_factory.mktemp("domains"), shards=3)
    run_case(made)
    return made


def keys_of(files: list[Path]) -> list[str]:
    return [key for file in files for key in read_parquet(file)["key"].to_pylist()]


@pytest.fixture(scope="module")
def split(case: Case) -> Path:
    """Every second point of the pool is kept; the reference set's points are in the table, too."""
    keys = sorted(keys_of(case.tables["pool"]))
    kept = [i % 2 == 0 for i in range(len(keys))]
    table = pa.table({"key": [*keys, "zz"], "kept": [*kept, True]})
    write_parquet(case.folder / "split.parquet", table)
    return case.folder / "split.parquet"


def test_keys_of_a_shard_that_a_split_keeps(case: Case, split: Path) -> None:
    kept = read_parquet(split)
    wanted = set(kept.filter(kept["kept"])["key"].to_pylist())
    found = [keys_kept(split, table) for table in case.tables["pool"]]
    assert [len(part) for part in found] == [55, 55, 55]
    assert set().union(*found) == wanted - {"zz"}


def test_only_what_the_split_keeps_is_labelled_scored_and_counted(
    case: Case, split: Path, tmp_path: Path
) -> None:
    spec = classifier.Spec.model_validate(
        {"classifier": {"kind": "linear", "encoder": "e"}, "encoder": ENCODER, "parts": PARTS}
    )
    files = (case.folder / "model.npz", case.folder / "record.json")
    judged = []
    for shard, samples, every in zip(
        case.shards["pool"], case.tables["pool"], case.scores("pool"), strict=True
    ):
        out = tmp_path / f"{shard}.parquet"
        score.write_vector_scores(
            spec, *files, case.embeddings["pool"], shard, out, out.with_suffix(".json"),
            split, samples,
        )  # fmt: skip
        whole = {row["key"]: row for row in read_parquet(every).to_pylist()}
        rows = read_parquet(out).to_pylist()
        kept = keys_kept(split, samples)
        assert [row["key"] for row in rows] == [key for key in whole if key in kept]
        for row in rows:  # by float32 rounding: other rows are multiplied beside
            assert row == {k: pytest.approx(v, abs=1e-5) for k, v in whole[row["key"]].items()}
        counts = StepCounts.from_json(read_json(out.with_suffix(".json")))
        assert counts.rejected == {"not kept by `pool_of`": len(whole) - len(rows)}
        judged.append(tmp_path / f"verdicts-{shard}.parquet")
        sides = dict.fromkeys(("natural", "rendition"), (case.folder / "points.json", out))
        decisions.write_decisions(sides, judged[-1], judged[-1].with_suffix(".json"))
    assert composition.count(judged).sum() == 165
    out = tmp_path / "labels.parquet"
    domain_labels.write_labels(
        case.tables["pool"], LABELS, out, out.with_suffix(".json"), split=split
    )
    assert read_parquet(out)["key"].to_pylist() == sorted(keys_of(judged))
    # They are what thresholds are measured on: labelled duplicates have no score, and need none.
    assert thresholds.read_sides(out, [tmp_path / f"{s}.parquet" for s in case.shards["pool"]])


def test_no_image_that_the_split_drops_is_decoded(tmp_path: Path) -> None:
    class Blind:
        """A model that sees only the number of its images."""

        form, detected = "ternary", ("natural", "rendition")

        def model(self, *_: object) -> Any:
            return lambda images: np.zeros((len(images), 3))

    from tests.unit.test_detectors import IMAGES

    samples = [Sample("a", {"png": IMAGES[0]}), Sample("b", {"png": b"damaged"})]
    samples += [Sample("c", {"png": IMAGES[1]}), Sample("d", {"png": b"damaged, too"})]
    write_tar(tmp_path / "a.tar", samples)
    fitted: Any = classifier.Fitted(Blind(), None, {"domains": {}}, {"domains": 1.0})  # type: ignore[arg-type]
    counts = StepCounts("s", "s")
    parts = score.score_images(fitted, [tmp_path / "a.tar"], counts, {"a", "b"})
    counts.went_out = score.write(parts, tmp_path / "s.parquet")
    assert read_parquet(tmp_path / "s.parquet")["key"].to_pylist() == ["a"]
    assert counts.as_json()["rejected"] == {"not kept by `pool_of`": 2, "undecodable image": 1}


# Test sets that people labelled ------------------------------------------------------------------


def changed(**keys: object) -> Config:
    """The mini study with other keys in `domains`."""
    cfg = load(*MINI)
    assert cfg.domains is not None
    domains = type(cfg.domains).model_validate(cfg.domains.model_dump() | keys)
    return Config.model_validate(cfg.model_dump() | {"domains": domains.model_dump()})


def test_the_keys_change_the_plan_of_their_own_files_only() -> None:
    before = DomainLayout(Layout(load(*MINI)))
    after = DomainLayout(Layout(changed(pool_of="full", benchmarks={"val": "data:val.parquet"})))
    split = "results/splits/full.parquet"
    assert (before.kept("mini"), before.part) == ([], False)
    assert (after.kept("mini"), after.kept("photos"), after.part) == ([split], [], True)
    own = after.score_inputs("linear", "mini", "00001")
    assert own == [
        *before.score_inputs("linear", "mini", "00001"), split, "results/pools/mini/00001.parquet"
    ]  # fmt: skip
    tuned = after.score_inputs("tuned", "mini", "00001")
    assert tuned[-2:] == own[-2:]
    for dataset in before.datasets:
        same = after.label_rule(dataset) == before.label_rule(dataset)
        assert same == (dataset != "val")
    assert after.label_rule("val").file == "data:val.parquet" and not after.label_rule("val").table
    for name in ("linear", "tuned"):
        assert after.classifier(name) == before.classifier(name)
        assert after.fit_inputs(name) == before.fit_inputs(name)
    assert (
        load(*MINI).model_dump(mode="json")["domains"].keys().isdisjoint({"pool_of", "benchmarks"})
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pool_of": "natural_256"}, "domains.pool_of: 'natural_256' is not one of"),
        ({"benchmarks": {"photos": "x"}}, "domains.benchmarks.photos: classifiers learn from"),
        ({"benchmarks": {"mini": "x"}}, "domains.benchmarks: 'mini' is not one of"),
        ({"natural": "r"}, "natural: 'r' detects rendition images only"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(keys: dict[str, Any], message: str) -> None:
    cfg = load(*MINI)
    assert cfg.domains is not None
    binary = {"kind": "linear", "encoder": "lite0", "form": "one_vs_rest", "detects": "rendition"}
    own = {n: c.model_dump() for n, c in cfg.domains.classifiers.items()} | {"r": binary}
    with pytest.raises(ValueError, match=message):
        changed(classifiers=own, **keys)
    changed(classifiers=own, rendition="r")


def test_a_tower_that_the_encoder_lacks_is_refused() -> None:
    cfg = load(*MINI)
    assert cfg.domains is not None
    own = {n: c.model_dump() for n, c in cfg.domains.classifiers.items()}
    own["tuned"] = {"kind": "finetune", "encoder": "lite0", "features": "tower"}
    with pytest.raises(ValueError, match=r"tuned: .* need a tower of open_clip; 'lite0' has none"):
        changed(classifiers=own)


def test_how_clean_a_clean_set_is(case: Case, tmp_path: Path) -> None:
    """By people's labels of some of its images, against a count by hand."""
    samples = case.tables["sketch"][0]
    keys = keys_of([samples])
    people = {key: 1 if "-rendition-" in key else 0 for key in sorted(keys)[::2]}
    rows = [
        {"key": k, "label": v, "concept": None, "source": None, "annotator": "ann"}
        for k, v in people.items()
    ]
    write_parquet(
        tmp_path / "people.parquet", pa.Table.from_pylist(rows, schema=domain_labels.SCHEMA)
    )
    labels = tmp_path / "labels.parquet"
    rule = Labels(datasets=["pool"], file=str(tmp_path / "people.parquet"))
    domain_labels.write_labels([samples], rule, labels, labels.with_suffix(".json"))
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "samples.parquet").write_bytes(samples.read_bytes())
    write_text(folder / "classnames.txt", "".join(f"class {i}\n" for i in range(4)))
    clean = tmp_path / "c.parquet"
    clean_set.write_clean(
        Clean(set="sketch", domain="rendition"), folder / "samples.parquet",
        folder / "classnames.txt", case.decisions("sketch")[0], clean, clean.with_suffix(".json"),
    )  # fmt: skip
    files: dict[str, Any] = {
        "clean": {"c": str(clean.with_suffix(".json"))},
        "labels": {"c": str(labels)},
        "kept": {"c": str(clean)},
    }
    (found,) = domain_clean.rows(CleanTable(clean=["c"], labelled=True), files)
    accepted = {
        r["key"]
        for r in read_parquet(case.decisions("sketch")[0]).to_pylist()
        if r["verdict"] == "rendition"
    }
    judged = [value for key, value in people.items() if key in accepted]
    assert 0 < len(judged) < len(people)
    assert (found["labelled"], found["labelled_of_domain"]) == (len(judged), sum(judged))
    ends = binomtest(sum(judged), len(judged)).proportion_ci(method="exact")
    assert found["purity"] == sum(judged) / len(judged)
    assert (found["purity_low"], found["purity_high"]) == pytest.approx((ends.low, ends.high))
    (plain,) = domain_clean.rows(CleanTable(clean=["c"]), files)
    assert plain.keys() == found.keys() - {k for k in found if "purity" in k or "labelled" in k}
    write_parquet(labels, domain_labels.SCHEMA.empty_table())
    with pytest.raises(ClipshiftError, match=r"keeps a labelled image; name .*benchmarks"):
        domain_clean.rows(CleanTable(clean=["c"], labelled=True), files)
