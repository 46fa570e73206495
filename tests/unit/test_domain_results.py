"""Composition, clean sets, evaluation by domain and splits by domain."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from clipshift.classifiers import clean_set
from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet, write_text
from clipshift.evaluation import by_domain
from clipshift.splits.recipes.domains import Mix
from clipshift.stats.prevalence import corrected, true_shares
from clipshift.study.config.domains import Clean, Variant
from tests.unit.domains_case import Case, make_case, make_mix, run_case
from tests.unit.logits_case import said


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    made = make_case(tmp_path_factory.mktemp("domains"))
    run_case(made)
    return made


# Composition -------------------------------------------------------------------------------------

CONFUSION = np.array([[0.8, 0.01, 0.1], [0.05, 0.9, 0.2], [0.14, 0.08, 0.7], [0.01, 0.01, 0.0]])


def test_correction_inverts_the_confusion() -> None:
    shares = np.array([0.3, 0.1, 0.6])
    assert true_shares(CONFUSION @ shares, CONFUSION) == pytest.approx(shares, abs=0.01)


def test_correction_has_no_negative_share() -> None:
    shares = true_shares(np.array([0.0, 1.0, 0.0, 0.0]), CONFUSION)
    assert (shares >= 0).all() and shares.sum() == pytest.approx(1)
    assert shares[1] > 0.99


def test_corrected_intervals_cover_the_truth() -> None:
    """40 simulated studies: 120 intervals at 95 % should miss about 6 times."""
    rng = np.random.default_rng(0)
    truth = np.array([0.3, 0.1, 0.6])
    hits = 0
    for seed in range(40):
        labelled = np.stack(
            [rng.multinomial(n, CONFUSION[:, i]) for i, n in enumerate((150, 100, 120))], axis=1
        )
        counts = rng.multinomial(1000, CONFUSION @ truth)
        shares, low, high = corrected(counts, labelled, draws=400, seed=seed)
        assert (low <= shares).all() and (shares <= high).all()
        hits += int(((low <= truth) & (truth <= high)).sum())
    assert hits >= 108


def test_composition_counts_every_picture(case: Case) -> None:
    made = read_json(case.folder / "composition.json")
    for name, entry in made["datasets"].items():
        rows = [r for f in case.decisions(name) for r in read_parquet(f).to_pylist()]
        counts = Counter(r["verdict"] for r in rows)
        assert entry["n"] == len(rows)
        assert entry["verdicts"] == {v: counts[v] for v in entry["verdicts"]}
        assert sum(e["share"] for e in entry["corrected"].values()) == pytest.approx(1)
    assert made["datasets"]["pool"]["labelled"] == {
        "natural": 60,
        "rendition": 240,
        "ambiguous": 30,
    }
    shares = made["datasets"]["pool"]["corrected"]
    assert shares["natural"]["low"] <= 60 / 330 <= shares["natural"]["high"]


# Clean sets --------------------------------------------------------------------------------------

CLASSES = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c", "c2": "c", "d1": "d"}
DECISIONS = dict.fromkeys(CLASSES, "rendition") | {"a2": "both", "b1": "neither", "b2": "natural"}


def test_every_dropped_picture_has_its_reason() -> None:
    del (given := dict(DECISIONS))["d1"]
    rows = clean_set.clean(Clean(set="s", domain="rendition", minimum_per_class=2), CLASSES, given)
    assert {r["key"]: r["reason"] for r in rows} == {
        "a1": "class has fewer than 2 left", "a2": "decision: both", "b1": "decision: neither",
        "b2": "decision: natural", "c1": "kept", "c2": "kept", "d1": "not scored",
    }  # fmt: skip


def test_classes_that_are_not_asked_for_go() -> None:
    rows = clean_set.clean(Clean(set="s", domain="rendition", classes=["c"]), CLASSES, DECISIONS)
    assert {r["key"] for r in rows if r["kept"]} == {"c1", "c2"}


def test_the_list_of_a_clean_set(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "samples.parquet").write_bytes(case.tables["sketch"][0].read_bytes())
    write_text(folder / "classnames.txt", "".join(f"class {i}\n" for i in range(5)))
    spec = Clean(set="sketch", domain="rendition")
    files = (folder / "samples.parquet", folder / "classnames.txt", case.decisions("sketch")[0])
    out = (tmp_path / "c.parquet", tmp_path / "c.json")
    clean_set.write_clean(spec, *files, *out)
    entry = read_json(tmp_path / "c.json")
    judged = read_parquet(case.decisions("sketch")[0]).to_pylist()
    kept = StepCounts.from_json(entry["account"]).went_out
    assert kept == sum(r["verdict"] == "rendition" for r in judged) > 0
    assert sum(entry["classes"].values()) == kept
    assert list(entry["classes"]) == sorted(entry["classes"])
    empty = Clean(set="sketch", domain="rendition", classes=["class 4"])
    with pytest.raises(ClipshiftError, match="keeps nothing"):
        clean_set.write_clean(empty, *files, *out)


# Evaluation --------------------------------------------------------------------------------------


KEYS = list("edcba")
KEPT = {"e", "a", "b"}


def scored(folder: Path, order: Sequence[int] = range(5)) -> Path:
    """Four classes; the third tempts, and no image of it is kept."""
    scores = np.array(
        [[5, 1, 6, 0], [4, 5, 0, 9], [0, 1, 7, 2], [0, 3, 5, 4], [1, 2, 0, 3]], np.float32
    )
    labels, mine = np.array([0, 1, 2, 3, 3]), list(order)
    keys = [KEYS[i] for i in mine]
    names = {"classes": ["w", "x", "y", "z"]}
    return said(folder / "s-m-s0.parquet", scores[mine], labels[mine], keys, **names)


def test_the_four_variants_of_a_clean_set(tmp_path: Path) -> None:
    seen = {v: by_domain.clean_view(scored(tmp_path), KEPT, v) for v in get_args(Variant)}
    top1 = {v: (len(p.keys), int(p.correct.sum()), p.classes) for v, p in seen.items()}
    every, left = ["w", "x", "y", "z"], ["w", "z"]
    assert top1 == {
        "original": (5, 2, every), "original_restricted": (3, 3, left),
        "clean": (3, 1, every), "clean_restricted": (3, 3, left),
    }  # fmt: skip
    assert set(seen["clean_restricted"].predicted.tolist()) == {0, 3}


def test_a_kept_picture_that_the_set_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match="keeps 'zz'"):
        by_domain.clean_view(scored(tmp_path), {"zz"}, "clean")


def test_draws_share_images_and_vary_with_training() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random((3, 200)) < 0.7
    same = by_domain.Condition({"s": hits}, {"s": 0.1}, {"s": "rendition"})
    lower = by_domain.Condition(
        {"s": hits & (rng.random((3, 200)) < 0.8)}, {"s": 0.1}, {"s": "rendition"}
    )
    drawn = by_domain.draw_means({"a": same, "b": lower}, "rendition", 500, 0)
    low, high = by_domain.interval(drawn[1] - drawn[0])
    assert low < lower.mean("rendition") - same.mean("rendition") < high < 0
    whole = by_domain.interval(drawn[0])
    assert whole[0] < same.mean("rendition") < whole[1]


def test_more_seeds_of_a_condition_deviate_less() -> None:
    """A seed scores the same on every image, so which images are drawn has no part."""
    rng = np.random.default_rng(1)
    few, many = (np.repeat(rng.normal(0.5, 0.05, (n, 1)), 50, axis=1) for n in (2, 8))
    conditions = {
        name: by_domain.Condition({"s": table}, {}, {"s": "rendition"})
        for name, table in (("few", few), ("many", many))
    }
    spread = by_domain.draw_means(conditions, "rendition", 4000, 0).std(1)
    assert spread[0] / spread[1] == pytest.approx((8 / 2) ** 0.5, rel=0.1)


# Splits ------------------------------------------------------------------------------------------


def kept(rows: list[dict[str, str]]) -> set[str]:
    return {r["key"] for r in rows if r["kept"]}


def test_counts_are_those_asked_for(case: Case, tmp_path: Path) -> None:
    rows = make_mix(case, tmp_path / "s.parquet", natural=20, rendition=30)
    judged = {
        r["key"]: r["verdict"]
        for name in ("pool", "photos")
        for f in case.decisions(name)
        for r in read_parquet(f).to_pylist()
    }
    assert Counter(judged[key] for key in kept(rows)) == {"natural": 20, "rendition": 30}
    assert [r["key"] for r in rows] == sorted(judged)
    reasons = Counter(r["reason"] for r in rows)
    assert reasons["kept"] == 50 and sum(reasons.values()) == len(judged)
    assert reasons["neither natural nor rendition"] == Counter(judged.values())["neither"]
    step_counts = read_json(tmp_path / "s.json")
    assert (step_counts["kept_natural"], step_counts["kept_rendition"]) == (20, 30)
    assert step_counts["candidates"] == len(judged) and step_counts["points_kept"] == 50


def test_mixes_are_nested(case: Case, tmp_path: Path) -> None:
    sizes = [(10, 10), (20, 10), (20, 40), (40, 80)]
    chain = [
        kept(make_mix(case, tmp_path / f"{n}-{r}.parquet", natural=n, rendition=r))
        for n, r in sizes
    ]
    assert all(small < large for small, large in pairwise(chain))
    random = [kept(make_mix(case, tmp_path / f"r{k}.parquet", random=k)) for k in (5, 30, 90)]
    assert all(small < large for small, large in pairwise(random))
    assert [len(part) for part in random] == [5, 30, 90]


def test_another_seed_is_another_draw(case: Case, tmp_path: Path) -> None:
    one, other = (
        kept(make_mix(case, tmp_path / f"{s}.parquet", random=50, seed=s)) for s in (0, 1)
    )
    assert one != other


def test_without_the_reference_set_only_the_pool_is_drawn(case: Case, tmp_path: Path) -> None:
    rows = make_mix(case, tmp_path / "s.parquet", reference=False, natural=20)
    assert all(r["key"].startswith("pool") for r in rows)


def test_points_of_other_classes_are_no_candidates(case: Case, tmp_path: Path) -> None:
    """Conditions of the same classes: who is drawn has one, and everybody else says why not."""
    rows = make_mix(case, tmp_path / "s.parquet", random=60, classes=["class 1", "class 2"])
    names = {
        r["key"]: r["class_name"]
        for name in ("pool", "photos")
        for f in case.tables[name]
        for r in read_parquet(f).to_pylist()
    }
    assert {names[key] for key in kept(rows)} == {"class 1", "class 2"}
    others = {r["key"] for r in rows if r["reason"] == "class is not asked for"}
    assert others == {k for k, v in names.items() if v in ("class 0", "class 3")}
    assert read_json(tmp_path / "s.json")["candidates"] == len(names) - len(others)


def test_more_than_there_is_is_refused_with_the_remedy(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ClipshiftError, match=r"wants 999 natural points, but there are only \d+"):
        make_mix(case, tmp_path / "s.parquet", natural=999)


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"natural": 3, "rendition": 1}, (3, 1)),
        ({"total": 16, "ratio": (3, 1)}, (12, 4)),
        ({"total": 7, "ratio": (1, 1)}, (4, 3)),
        ({"total": 7, "ratio": (0, 1)}, (0, 7)),
        ({"random": 5}, (0, 0)),
    ],
)
def test_counts_or_ratios(keys: dict[str, object], parts: tuple[int, int]) -> None:
    mix = Mix.model_validate({"recipe": "domains"} | keys)
    assert mix.parts == parts and mix.size == (sum(parts) or 5)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"natural": 1, "random": 1},
        {"total": 4},
        {"ratio": (1, 1)},
        {"total": 4, "ratio": (0, 0)},
        {"total": 4, "ratio": (-1, 3)},
        {"natural": 1, "total": 4, "ratio": (1, 1)},
    ],
)
def test_recipes_that_say_two_things_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Mix.model_validate({"recipe": "domains"} | keys)


# Nothing is aligned by position ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_files_and_rows_in_any_order_give_the_same_results(tmp_path: Path, kind: str) -> None:
    """Every table and embedding shuffled, the pool cut into other shards."""
    outputs = []
    for place, (shards, order) in enumerate([(1, None), (3, 1), (5, 2)]):
        made = make_case(tmp_path / str(place), shards=shards, order_seed=order)
        run_case(made, kind)
        mix = make_mix(made, tmp_path / f"{place}/mix.parquet", natural=25, rendition=60)
        folder = tmp_path / f"{place}/set"
        folder.mkdir()
        (folder / "samples.parquet").write_bytes(made.tables["sketch"][0].read_bytes())
        write_text(folder / "classnames.txt", "".join(f"class {i}\n" for i in range(4)))
        spec = Clean(set="sketch", domain="rendition")
        clean_set.write_clean(
            spec, folder / "samples.parquet", folder / "classnames.txt",
            made.decisions("sketch")[0], made.folder / "c.parquet", made.folder / "c.json",
        )  # fmt: skip
        decisions = {
            r["key"]: r["verdict"]
            for name in made.shards
            for f in made.decisions(name)
            for r in read_parquet(f).to_pylist()
        }
        files = ("points.json", "composition.json", "c.parquet", "c.json", "record.json")
        outputs.append([mix, decisions, *((made.folder / f).read_bytes() for f in files)])
    assert outputs[0] == outputs[1] == outputs[2]


def test_the_order_of_a_sets_tars_changes_nothing(tmp_path: Path) -> None:
    found = []
    table = pa.table({"key": KEYS, "kept": [key in KEPT for key in KEYS]})
    write_parquet(tmp_path / "c.parquet", table)
    write_json(tmp_path / "c.json", {"domain": "natural"})
    for seed in (0, 1, 2):
        order = np.random.default_rng(seed).permutation(5).tolist()
        rows = scored(tmp_path / str(seed), order)
        conditions = by_domain.read_conditions(
            {"s": {"c": [str(rows)]}}, {"c": str(tmp_path / "c.parquet")}, "clean_restricted"
        )
        condition = conditions["s"]
        files = (rows.with_suffix(suffix).read_bytes() for suffix in (".npy", ".parquet"))
        found.append((condition.correct["c"].tolist(), condition.chance, condition.domains, *files))
    assert found[0] == found[1] == found[2]
    assert found[0][1:3] == ({"c": 0.5}, {"c": "natural"})
