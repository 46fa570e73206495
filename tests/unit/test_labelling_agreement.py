"""Agreement against values computed by hand, scikit-learn and the literature."""

from itertools import permutations, product

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from clipshift.apps.labelling.agreement import (
    agreement,
    alpha_of_counts,
    cohen,
    cohen_of_tables,
    fleiss,
    fleiss_of_counts,
    krippendorff,
    lines,
)
from clipshift.apps.labelling.table import label_table


def table(given: dict[str, list[int | None]]) -> pa.Table:
    """Labels of annotators over the images k00, k01 ... (None: not labelled)."""
    return label_table(
        {"key": f"k{i:02d}", "label": label, "annotator": name, "concept": None, "source": None}
        for name, labels in given.items()
        for i, label in enumerate(labels)
        if label is not None
    )


def test_cohen_by_hand() -> None:
    # 10 images, 7 equal. Shares .5 .3 .2 and .4 .4 .2: expected .2 + .12 + .04 = .36.
    a = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    b = np.array([0, 0, 0, 1, 2, 1, 1, 1, 0, 2])
    found = cohen(a, b, 500, np.random.default_rng(0))
    assert found["kappa"] == pytest.approx((0.7 - 0.36) / (1 - 0.36))
    assert (found["n"], found["observed"]) == (10, 0.7)
    assert found["table"] == [[3, 1, 1], [0, 3, 0], [1, 0, 1]]
    assert found["low"] < found["kappa"] < found["high"] <= 1


def test_cohen_of_tables_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        a, b = rng.integers(0, 3, (2, 40))
        counts = np.zeros((1, 3, 3), int)
        np.add.at(counts[0], (a, b), 1)
        assert cohen_of_tables(counts)[0] == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


def test_fleiss_of_the_literature() -> None:
    # Fleiss 1971 as worked out in many textbooks: 10 subjects, 14 raters, 5 categories, 0.210.
    counts = np.array(
        [
            [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
        ]
    )  # fmt: skip
    assert fleiss_of_counts(counts, np.ones((1, 10), int))[0] == pytest.approx(0.2099, abs=5e-5)


def test_fleiss_by_hand() -> None:
    # Three annotators, four images: patterns 3-0-0, 0-3-0, 2-1-0, 1-1-1.
    matrix = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 2], [0, -1, -1], [0, 0, -1]])
    found = fleiss(matrix, 200, np.random.default_rng(0))
    observed = (1 + 1 + 1 / 3 + 0) / 4
    shares = np.array([6, 5, 1]) / 12
    expected = (shares**2).sum()
    assert found["kappa"] == pytest.approx((observed - expected) / (1 - expected))
    assert (found["n"], found["annotators"], found["labelled_by_some_only"]) == (4, 3, 1)


def test_fleiss_of_two_with_equal_shares_is_scotts_pi() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.integers(0, 3, (50, 2))
    share = np.bincount(matrix.ravel(), minlength=3) / 100
    expected = (share**2).sum()
    observed = (matrix[:, 0] == matrix[:, 1]).mean()
    found = fleiss(matrix, 10, rng)["kappa"]
    assert found == pytest.approx((observed - expected) / (1 - expected))


def test_alpha_of_the_literature() -> None:
    # Krippendorff, Computing Krippendorff's alpha-reliability (2011), section C: four observers,
    # 12 units, five values, missing data: nominal alpha .743.
    values = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
            [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
        ]
    )
    counts = np.stack([(values == v).sum(0) for v in range(1, 6)], axis=1)
    counts = counts[counts.sum(1) > 1]  # unit 12 has one value: no pair
    assert len(counts) == 11
    alpha = alpha_of_counts(counts, np.ones((1, 11), int))[0]
    assert alpha == pytest.approx(0.743, abs=5e-4)


def alpha_by_pairs(matrix: np.ndarray) -> float:
    """The definition: disagreeing pairs within images over disagreeing pairs of all labels."""
    within = 0.0
    pairable = [row[row >= 0] for row in matrix if (row >= 0).sum() > 1]
    for labels in pairable:
        within += sum(a != b for a, b in permutations(labels, 2)) / (len(labels) - 1)
    every = np.concatenate(pairable)
    whole = sum(a != b for a, b in permutations(every, 2))
    return float(1 - (within / len(every)) / (whole / (len(every) * (len(every) - 1))))


def test_alpha_is_its_definition_with_missing_labels() -> None:
    rng = np.random.default_rng(6)
    for annotators in (2, 3, 5):
        matrix = rng.integers(-1, 3, (30, annotators))
        found = krippendorff(matrix, 10, rng)
        assert found["alpha"] == pytest.approx(alpha_by_pairs(matrix), abs=1e-12)
        assert found["n"] == int(((matrix >= 0).sum(1) > 1).sum())


def test_bootstrap_of_alpha_equals_drawing_images() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 3, (40, 1))
    matrix = np.where(rng.random((40, 3)) < 0.7, truth, rng.integers(-1, 3, (40, 3)))
    matrix = matrix[(matrix >= 0).sum(1) > 1]
    drawn = [alpha_by_pairs(matrix[i]) for i in rng.integers(0, len(matrix), (300, len(matrix)))]
    found = krippendorff(matrix, 4000, rng)
    assert found["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.05)
    assert found["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.05)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Two annotators who copy a fair coin of three sides with probability p: kappa = p.
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(200):
        truth = rng.integers(0, 3, 150)
        other = np.where(rng.random(150) < 0.6, truth, rng.integers(0, 3, 150))
        found = cohen(truth, other, 400, rng)
        covered.append(found["low"] <= 0.6 <= found["high"])
    assert 0.90 <= np.mean(covered) <= 0.99


def test_bootstrap_equals_drawing_pictures() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 3, 60)
    b = np.where(rng.random(60) < 0.5, a, rng.integers(0, 3, 60))
    drawn = [cohen_kappa_score(a[i], b[i]) for i in rng.integers(0, 60, (2000, 60))]
    found = cohen(a, b, 4000, rng)
    assert found["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.03)
    assert found["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.03)


def test_agreement_of_three_with_gaps() -> None:
    given = {"ann": [0, 1, 2, 0, None], "ben": [0, 1, 1, None, None], "cem": [0, 1, 2, 0, 1]}
    made = table(given | {"adjudicated": [None, None, 2, None, None]})
    found = agreement(made, draws=100)
    assert found == agreement(made, draws=100)  # seeded
    assert [(p["a"], p["b"], p["n"]) for p in found["pairs"]] == [
        ("ann", "ben", 3), ("ann", "cem", 4), ("ben", "cem", 3),
    ]  # fmt: skip
    assert found["pairs"][1]["kappa"] == 1
    assert (found["pictures"], found["labelled_twice"], found["disagreements"]) == (5, 4, 1)
    assert found["fleiss"]["n"] == 3 and found["fleiss"]["labelled_by_some_only"] == 1
    assert found["annotators"]["cem"] == {"natural": 2, "rendition": 2, "ambiguous": 1}
    assert found["krippendorff"]["n"] == 4 and found["krippendorff"]["labels"] == 11
    for text in ("Fleiss' kappa of 3 annotators", "Krippendorff's alpha of 3 annotators: 0."):
        assert any(text in line for line in lines(found))


def test_undefined_kappas_are_null_and_say_why() -> None:
    found = agreement(table({"ann": [0, 0, None], "ben": [0, 0, None], "cem": [None, None, 1]}))
    kappas = {(p["a"], p["b"]): p for p in found["pairs"]}
    assert all(p["kappa"] is None and p["low"] is None for p in kappas.values())
    text = "\n".join(lines(found))
    assert "not defined, everybody used one label only (n = 2)" in text
    assert "not defined, no image in common (n = 0)" in text
    assert found["fleiss"]["kappa"] is None and found["fleiss"]["n"] == 0
    assert found["krippendorff"]["alpha"] is None and found["krippendorff"]["n"] == 2
    alone = agreement(table({"ann": [0, 1]}))
    assert alone["pairs"] == [] and alone["fleiss"] is None
    assert alone["krippendorff"] is None
    assert agreement(table({}))["pictures"] == 0


def test_no_dependence_on_order() -> None:
    given: dict[str, list[int | None]] = {"ann": [], "ben": []}
    for a, b in product(range(3), repeat=2):
        given["ann"] += [a] * (3 if a == b else 1)
        given["ben"] += [b] * (3 if a == b else 1)
    made = table(given)
    order = np.random.default_rng(5).permutation(len(made))
    assert agreement(made.take(order)) == agreement(made)
