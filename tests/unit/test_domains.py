"""Labels, parts, classifiers, operating points, decisions: what each may and may not do."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from clipshift.classifiers import decisions, domain_labels, folds, reductions, thresholds
from clipshift.classifiers.methods.centroid import Centroid
from clipshift.classifiers.methods.linear import Linear
from clipshift.core.brace_ranges import numbered
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.figures.kinds import domain_curves, domain_detectors
from clipshift.figures.kinds.domain_curves import DomainCurves
from clipshift.figures.kinds.domain_detectors import DetectorTable
from clipshift.similarity.encoders.efficientnet_lite0 import EfficientNetLiteEncoder
from clipshift.study.config.classifier_base import DOMAINS, Examples
from clipshift.study.config.domains import Domains, Labels, Parts
from tests.conftest import row, unit
from tests.unit.domains_case import LABELS, PARTS, Case, make_case, run_case


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = make_case(tmp_path_factory.mktemp("domains"))
    run_case(made)
    return made


def people(*rows: tuple[str, int, str]) -> pa.Table:
    filled = [
        {"key": k, "label": v, "concept": None, "source": None, "annotator": who}
        for k, v, who in rows
    ]
    return pa.Table.from_pylist(filled, schema=domain_labels.SCHEMA)


# Labels ------------------------------------------------------------------------------------------


def test_exceptions_win_over_the_table_of_sources() -> None:
    assert domain_labels.by_table(row("s", "a", "c/plain", domain="photo"), LABELS) == 0
    assert domain_labels.by_table(row("s", "b", "c/glow/deep", domain="photo"), LABELS) == 2


def test_a_domain_without_a_row_is_named_with_the_remedy() -> None:
    with pytest.raises(ClipshiftError, match=r"no label for the domain 'fresco'.*add a row"):
        domain_labels.by_table(row("s", "a", domain="fresco"), LABELS)


def test_people_win_by_majority_and_a_tie_is_ambiguous() -> None:
    table = people(
        ("s-a", 1, "x"), ("s-a", 1, "y"), ("s-a", 0, "z"), ("s-b", 0, "x"), ("s-b", 1, "y")
    )
    given_labels = domain_labels.by_people(table, Path("labels.parquet"))
    rows = [row("s", name, domain="photo") for name in "cba"]
    found = domain_labels.label(rows, LABELS, given_labels).to_pylist()
    assert [(r["key"], r["label"]) for r in found] == [("s-a", 1), ("s-b", 2), ("s-c", 0)]
    assert found[0]["annotator"] == "x, y, z" and found[2]["annotator"] == domain_labels.BY_TABLE


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((("a", 3, "x"),), "label 3 of 'a'"),
        ((("a", 0, "x"), ("a", 1, "x")), "x labels 'a' both"),
    ],
)
def test_labels_that_are_none_are_refused(
    rows: tuple[tuple[str, int, str], ...], message: str
) -> None:
    with pytest.raises(ClipshiftError, match=message):
        domain_labels.by_people(people(*rows), Path("f"))


def test_without_a_table_only_peoples_labels_count(tmp_path: Path) -> None:
    spec = Labels(datasets=["pool"], file=str(tmp_path / "labels.parquet"))
    write_parquet(tmp_path / "labels.parquet", people(("pool-natural-000", 1, "x")))
    case = make_case(tmp_path)
    tables = case.tables["pool"]
    domain_labels.write_labels(tables, spec, tmp_path / "out.parquet", tmp_path / "out.json")
    step_counts = StepCounts.from_json(read_json(tmp_path / "out.json")["account"])
    assert (step_counts.came_in, step_counts.went_out, step_counts.rejected["no label"]) == (
        330,
        1,
        329,
    )


def test_peoples_labels_of_other_pictures_are_refused(tmp_path: Path) -> None:
    """By key alone, labels of another download would be taken; a caption tells."""
    case = make_case(tmp_path)
    tables = case.tables["pool"]
    known = pa.concat_tables(read_parquet(t, ["key", "caption"]) for t in tables).to_pylist()
    rows = people(*((row["key"], 1, "x") for row in known))
    spec = Labels(datasets=["pool"], file=str(tmp_path / "labels.parquet"))
    words, out = tables, tmp_path / "out.parquet"
    for texts, fine in (([r["caption"] for r in known], True), (["other"] * len(known), False)):
        write_parquet(Path(spec.file or ""), rows.append_column("caption", pa.array(texts)))
        if fine:
            domain_labels.write_labels(words, spec, out, out.with_suffix(".json"))
            joined = read_json(out.with_suffix(".json"))["joined"]
            assert joined["witnesses"]["caption"]["agree"] == len(known)
            continue
        with pytest.raises(ClipshiftError, match=r"labels\.parquet: of .* only 0 .*caption"):
            domain_labels.write_labels(words, spec, out, out.with_suffix(".json"))
    domain_labels.write_labels(words, spec, out, out.with_suffix(".json"), agree=0)


# Parts -------------------------------------------------------------------------------------------


def test_no_concept_is_in_two_parts(case: Case) -> None:
    files = [case.labels(name) for name in LABELS.datasets]
    labelled = folds.read_labelled(files, set(), PARTS)
    concepts = {r["key"]: r["concept"] for f in files for r in read_parquet(f).to_pylist()}
    seen: dict[str, set[str]] = {}
    for key, part in zip(labelled.keys, labelled.parts, strict=True):
        seen.setdefault(concepts[key], set()).add(part)
    assert all(len(of) == 1 for of in seen.values())
    assert {part for of in seen.values() for part in of} == {"train", "validation", "test"}
    assert max(len([k for k in concepts if concepts[k] == c]) for c in seen) > 1


def test_concepts_of_test_sets_are_in_no_part(tmp_path: Path) -> None:
    rows = [{"key": k, "label": 0, "concept": c} for k, c in (("a", "x"), ("b", "y"), ("c", None))]
    write_parquet(tmp_path / "own.parquet", pa.Table.from_pylist(rows))
    write_parquet(tmp_path / "set.parquet", pa.Table.from_pylist(rows[:1]))
    found = folds.read_labelled(
        [tmp_path / "own.parquet"],
        folds.concepts(read_parquet(tmp_path / "set.parquet").to_pylist()),
        PARTS,
    )
    assert (found.keys.tolist(), found.dropped["natural"]) == (["b", "c"], 1)


def test_parts_do_not_follow_the_hold_out() -> None:
    """Both hash a concept with a seed; the same hash would put all held-out ones into one part."""
    from clipshift.datasets.select import is_held_out
    from clipshift.study.config.data import Holdout

    found = set()
    for i in range(60):
        held = is_held_out(row("s", "x", concept=str(i), class_name="c"), Holdout(fraction=0.3))
        found.add((held, folds.part_of(f"fam/{i}", Parts())))
    assert len(found) == 6


@given(st.integers(3, 60), st.booleans())
@settings(max_examples=15)
def test_the_training_part_is_what_was_asked_for(size: int, balanced: bool) -> None:
    n = 90
    keys = np.array([f"k{i:03d}" for i in range(n)])
    of = np.array(([0] * 10 + [1] * 60 + [2] * 20), dtype=np.int8)
    labelled = folds.Labelled(keys, of, np.array(["train"] * 80 + ["test"] * 10), {})
    chosen = folds.training(labelled, size, balanced, seed=1)
    most = 30 if balanced else 80
    assert len(chosen.keys) == min(size, most) and (chosen.parts == "train").all()
    assert chosen.keys.tolist() == sorted(chosen.keys)
    if balanced and size >= most:
        assert np.bincount(chosen.labels).tolist() == [10, 10, 10]


# Classifiers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "centroid", "knn"])
@pytest.mark.parametrize("form", ["ternary", "one_vs_rest", "density_ratio"])
def test_every_classifier_tells_the_domains_apart(tmp_path: Path, kind: str, form: str) -> None:
    made = make_case(tmp_path)
    run_case(made, kind, form=form)
    result = read_json(tmp_path / "points.json")["domains"]
    for domain in ("natural", "rendition"):
        assert result[domain]["attained"]
        assert result[domain]["parts"]["test"]["recall"] > 0.8
        assert result[domain]["parts"]["test"]["precision"] > 0.75
        assert list(result[domain]["parts"]) == ["test", "validation"]
        assert len(made.set_sides()[domain][0]) == 56
    record = read_json(tmp_path / "record.json")
    for losses in record["log_loss"].values():
        assert losses["validation"]["after"] <= losses["validation"]["before"]


def test_the_centroid_is_the_nearest_not_the_farthest(case: Case, tmp_path: Path) -> None:
    made = make_case(tmp_path)
    run_case(made, "centroid")
    scores = read_parquet(made.scores("photos")[0]).to_pylist()
    natural = [r["natural"] - r["rendition"] for r in scores if "-natural-" in r["key"]]
    assert np.mean(np.array(natural) > 0) > 0.9


def test_the_nearest_centroid_by_either_distance() -> None:
    """Decisions are those of distances computed one by one; the two distances differ here."""
    rng = np.random.default_rng(0)
    of = np.arange(60) % 3
    spread = np.array([4.0, 1.0, 2.0])[of][:, None]
    x = unit(np.eye(3, 5)[of] * spread + rng.normal(size=(60, 5))).astype(float)
    means = np.stack([x[of == c].mean(0) for c in range(3)])
    expected = {
        "cosine": [[-(v @ m) / np.linalg.norm(m) for m in means] for v in x],
        "euclidean": [[((v - m) ** 2).sum() for m in means] for v in x],
    }
    found = {}
    for distance, values in expected.items():
        spec = Centroid(kind="centroid", encoder="e", distance=distance)
        examples, encoder = Examples(x, of, 3), EfficientNetLiteEncoder(kind="efficientnet_lite0")
        arrays = spec.fit(examples, examples, encoder)
        logits = spec.model(arrays, 3, encoder)(x)
        found[distance] = logits.argmax(1)
        assert np.array_equal(found[distance], np.argmin(values, axis=1))
        # Up to what all classes of an image share, logits are distances with a minus.
        assert np.allclose(np.diff(logits), -np.diff(values), atol=1e-5)
    assert (found["cosine"] != found["euclidean"]).any()


def test_a_density_ratio_sets_a_domain_against_everyone() -> None:
    labels_of = np.array([0, 1, 1, 2])
    own = Linear(kind="linear", encoder="e", form="density_ratio")
    problem = next(p for p in reductions.problems(own, labels_of) if p.name == "rendition")
    assert problem.rows.tolist() == [0, 1, 2, 3, 1, 2]
    assert problem.targets.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_form_without_its_label_says_so() -> None:
    ternary = Linear(kind="linear", encoder="e")
    with pytest.raises(ClipshiftError, match=r"no labelled image of the part 'train' is rendition"):
        reductions.problems(ternary, np.array([0, 2]))
    binary = ternary.model_copy(update={"form": "one_vs_rest"})
    reductions.problems(binary, np.array([0, 1]))
    with pytest.raises(ClipshiftError, match="is natural: label more"):
        reductions.problems(binary, np.array([1, 1]))


@pytest.mark.parametrize("kind", ["linear", "centroid", "knn"])
def test_two_labels_are_enough_from_the_fit_to_the_composition(kind: str, tmp_path: Path) -> None:
    """Nobody labels an image ambiguous: natural is what is no rendition, and shares are two."""
    two = make_case(tmp_path, ambiguous=False)
    run_case(two, kind=kind)
    rows = read_parquet(two.scores("pool")[0])
    assert rows["ambiguous"].null_count == len(rows)
    natural, rendition = rows["natural"].to_numpy(), rows["rendition"].to_numpy()
    assert natural == pytest.approx(-rendition) and (natural > 0).any() and (natural < 0).any()
    assert {*read_json(two.folder / "points.json")["domains"]} == {"natural", "rendition"}
    entry = read_json(two.folder / "composition.json")["datasets"]["pool"]
    shares = {name: numbers["share"] for name, numbers in entry["corrected"].items()}
    assert shares == pytest.approx({"natural": 60 / 300, "rendition": 240 / 300}, abs=0.03)


def test_a_binary_detector_of_renditions_against_the_rest() -> None:
    own = Linear(kind="linear", encoder="e", form="one_vs_rest", detects="rendition")
    (problem,) = reductions.problems(own, np.array([0, 1, 2, 1]))
    assert (problem.name, problem.targets.tolist()) == ("rendition", [0, 1, 0, 1])
    assert reductions.names(own) == [("rendition", 2)]
    reductions.problems(own, np.array([1, 2]))  # natural images are no label of its own
    with pytest.raises(ClipshiftError, match=r"every labelled .* part 'test' is rendition"):
        reductions.problems(own, np.array([1, 1]), "test")
    with pytest.raises(ValueError, match="a ternary model detects both"):
        Linear(kind="linear", encoder="e", detects="rendition")


def test_a_detector_of_renditions_beside_one_of_natural_images(tmp_path: Path) -> None:
    """Scores, thresholds and decisions of a classifier that knows one domain."""
    ternary, binary = make_case(tmp_path / "n"), make_case(tmp_path / "r")
    run_case(ternary)
    with pytest.raises(ClipshiftError, match="no score for natural"):
        run_case(binary, form="one_vs_rest", detects="rendition")
    rows = read_parquet(binary.scores("pool")[0])
    assert rows["natural"].null_count == rows["ambiguous"].null_count == len(rows)
    points = read_json(binary.folder / "points.json")["domains"]
    assert [*points] == ["rendition"] and [*binary.set_sides()] == ["rendition"]
    sides = {
        "natural": (ternary.folder / "points.json", ternary.scores("pool")[0]),
        "rendition": (binary.folder / "points.json", binary.scores("pool")[0]),
    }
    judged = decisions.judge(sides).to_pylist()
    accepted = rows.sort_by("key")["rendition"].to_numpy() >= points["rendition"]["threshold"]
    assert [r["verdict"] in ("rendition", "both") for r in judged] == accepted.tolist()
    own = [r["verdict"] == "rendition" for r in judged if "-rendition-" in r["key"]]
    assert np.mean(own) > 0.9


def test_temperature_finds_the_scale_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3)) * 2
    chances = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    targets = (chances.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert reductions.temperature(5 * true, targets) == pytest.approx(5, rel=0.1)


# Operating points --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=40))
@settings(max_examples=60)
def test_the_operating_point_is_the_lowest_that_is_precise_enough(
    rows: list[tuple[bool, int]],
) -> None:
    truth, scores = np.array([t for t, _ in rows]), np.array([float(s) for _, s in rows])
    good = [s for s in sorted(set(scores)) if truth[scores >= s].mean() >= 0.75]
    expected = good[0] if good and truth.any() else None
    assert thresholds.operating_point(truth, scores, 0.75) == expected


def test_a_threshold_by_its_lower_bound_holds_on_other_images() -> None:
    """3,000 images, 8 % of them renditions: 95 of 100 draws hold 98 %, by the scores' own law."""
    rng, holds, attained, by_chance = np.random.default_rng(0), 0, 0, 0

    def precision(threshold: float) -> float:
        right, wrong = 0.08 * norm.sf(threshold - 5), 0.92 * norm.sf(threshold)
        return float(right / (right + wrong))

    for _ in range(200):
        truth = rng.random(3000) < 0.08
        side = {"natural": (truth, rng.normal(size=3000) + 5 * truth)}
        entry = thresholds.points({"validation": side}, 0.98, 0.95)["natural"]
        attained += entry["bound_holds"]
        holds += entry["bound_holds"] and precision(entry["threshold"]) >= 0.98
        by_chance += precision(entry["point_estimate"]["threshold"]) >= 0.98
    assert attained >= 180 and holds >= 0.95 * attained
    assert by_chance < 150


def test_the_labels_that_a_lower_bound_needs_are_said_before_anybody_labels() -> None:
    block = {"name": "d", "labels": LABELS, "natural": "c", "rendition": "c"}
    block |= {"classifiers": {"c": {"kind": "linear", "encoder": "e"}}}
    said = Domains.model_validate(block | {"parts": {"validation": 0.25}}).labels_needed
    assert "needs 149 images" in said and "at least 596 labelled ones" in said
    assert Domains.model_validate(block | {"confidence": None}).labels_needed == ""


def test_too_few_labels_for_the_lower_bound_take_the_point_estimate() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(600) < 148
    scores = rng.random(600) + 2 * truth  # no error, and one image less than needed
    entry = thresholds.points({"validation": {"natural": (truth, scores)}}, 0.98, 0.95)["natural"]
    assert not entry["bound_holds"]
    assert entry["threshold"] == entry["point_estimate"]["threshold"] < scores[truth].min()
    truth = np.arange(600) < 149
    scores = rng.random(600) + 2 * truth
    entry = thresholds.points({"validation": {"natural": (truth, scores)}}, 0.98, 0.95)["natural"]
    assert entry["bound_holds"] and entry["threshold"] == scores[truth].min()


def test_an_unattainable_precision_is_said_and_accepts_nothing(tmp_path: Path) -> None:
    truth, scores = np.array([True, False, False]), np.array([0.1, 0.1, 0.3])
    entry = thresholds.points({"validation": {"natural": (truth, scores)}}, 0.98)["natural"]
    assert not entry["attained"] and entry["threshold"] is None
    assert entry["best_precision"] == pytest.approx(1 / 3)
    assert entry["parts"]["validation"]["accepted"] == 0
    assert entry["parts"]["validation"]["precision"] is None
    assert not decisions.accepts(scores, None).any()


def test_measured_counts_and_intervals() -> None:
    truth = np.array([True, True, False, False, True])
    entry = thresholds.measured(truth, np.array([3.0, 2.0, 2.5, 0.0, -1.0]), 2.0)
    assert (entry["accepted"], entry["right"], entry["positives"]) == (3, 2, 3)
    assert entry["precision_low"] < entry["precision"] < entry["precision_high"]
    assert entry["recall"] == pytest.approx(2 / 3)


def test_a_threshold_of_the_table_gives_back_what_it_measured(case: Case) -> None:
    """float32 scores, a threshold that went through JSON: the same images are accepted."""
    result = read_json(case.folder / "points.json")["domains"]
    judged = read_parquet(case.decisions("sketch")[0]).to_pylist()
    for domain in ("natural", "rendition"):
        accepted = sum(r["verdict"] in (domain, "both") for r in judged)
        entry = thresholds.measured(*case.set_sides()[domain], result[domain]["threshold"])
        assert accepted == entry["accepted"] > 0


def test_the_test_part_moves_no_threshold(case: Case) -> None:
    found = case.part_sides()
    before = thresholds.points(found, 0.95)
    for domain in ("natural", "rendition"):
        truth, scores = found["test"][domain]
        found["test"][domain] = ~truth, -scores
    after = thresholds.points(found, 0.95)
    assert [before[d]["threshold"] for d in before] == [after[d]["threshold"] for d in after]


def test_parts_say_what_each_labelled_picture_was_used_for(case: Case) -> None:
    rows = read_parquet(case.parts).to_pylist()
    given = {
        r["key"]: r for name in LABELS.datasets for r in read_parquet(case.labels(name)).to_pylist()
    }
    assert [r["key"] for r in rows] == sorted(given)
    for r in rows:
        row = given[r["key"]]
        assert r["label"] == row["label"] and r["part"] == folds.part_of(row["concept"], PARTS)


def test_a_further_test_set_moves_no_threshold_and_is_measured(case: Case, tmp_path: Path) -> None:
    """Thresholds are of the classifier's own parts; a set is asked when it is shown."""
    block = DetectorTable(classifiers=["c"])
    point = tmp_path / "c.json"
    write_json(point, {"precision": 0.95, "domains": thresholds.points(case.part_sides(), 0.95)})
    empty = tmp_path / "empty.parquet"
    write_parquet(empty, read_parquet(case.labels("sketch")).slice(0, 0))
    scores = numbered([str(f) for f in case.scores("sketch")])
    files = {
        "points": {"c": str(point)},
        "labels": {"sketch": str(case.labels("sketch")), "unlabelled": str(empty)},
        "scores": {"c": {"sketch": scores, "unlabelled": scores}},
    }
    found = domain_detectors.rows(block, files, {"c": {"kind": "linear"}})
    assert [(r["domain"], r["set"]) for r in found] == [
        (domain, place)
        for domain in ("natural", "rendition")
        for place in ("sketch", "test", "validation")
    ]
    assert all(list(r) == list(found[0]) for r in found)
    curves = {"points": files["points"], "labels": [files["labels"]["sketch"]], "parts": {}}
    curves["scores"] = {"c": [scores]}
    drawn = domain_curves.rows(DomainCurves(classifiers=["c"], set="sketch"), curves)
    for domain in ("natural", "rendition"):
        (entry,) = [r for r in found if (r["domain"], r["set"]) == (domain, "sketch")]
        (mark,) = [r for r in drawn if r["domain"] == domain and r["mark"]]
        assert (mark["precision"], mark["recall"]) == (entry["precision"], entry["recall"])
    with pytest.raises(ClipshiftError, match="no labelled set 'unlabelled'"):
        curves["labels"] = [str(empty)]
        domain_curves.rows(DomainCurves(classifiers=["c"], set="unlabelled"), curves)


def test_curves_of_a_part_are_of_what_the_classifier_was_fitted_on(case: Case) -> None:
    scores = [numbered([str(f) for f in case.scores(n)]) for n in LABELS.datasets]
    files = {
        "points": {"c": str(case.folder / "points.json")},
        "labels": [],
        "parts": {"c": str(case.parts)},
        "scores": {"c": scores},
    }
    drawn = domain_curves.rows(DomainCurves(classifiers=["c"], set="test"), files)
    for domain, entry in read_json(case.folder / "points.json")["domains"].items():
        (mark,) = [r for r in drawn if r["domain"] == domain and r["mark"]]
        assert mark["recall"] == entry["parts"]["test"]["recall"]
    for name in ("train", "nothing"):
        with pytest.raises(ClipshiftError, match=f"no labelled set '{name}'"):
            domain_curves.rows(DomainCurves(classifiers=["c"], set=name), files)


def test_detectors_that_scored_other_pictures_are_refused(case: Case, tmp_path: Path) -> None:
    file = case.scores("sketch")[0]
    write_parquet(tmp_path / "fewer.parquet", read_parquet(file).slice(1))
    point = case.folder / "points.json"
    with pytest.raises(ClipshiftError, match="other images"):
        decisions.judge(
            {"natural": (point, file), "rendition": (point, tmp_path / "fewer.parquet")}
        )


def test_labels_are_places_in_domains() -> None:
    assert DOMAINS == ("natural", "rendition", "ambiguous")
