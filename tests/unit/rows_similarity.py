"""Cases of the kinds in the report's section on similarity."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.unit.rows_case import (
    answers,
    case,
    drawn,
    exact,
    image_set,
    nearest,
    same,
    shards,
    step_counts,
    write,
)


@case("neighbours")
def neighbours(folder: Path) -> None:
    """Four parts of four images: every image, in the order of the nearest point of all bases."""
    pool = {
        "t1": [("p1", 0.5), ("p2", 0.4)], "t2": [("p2", 0.9), ("p1", 0.3)],
        "t3": [("p1", 0.2), ("p2", 0.1)], "t4": [("p2", 0.6), ("p1", 0.1)],
    }  # fmt: skip
    photos = {"t1": [("r1", 0.1)], "t2": [("r1", 0.2)], "t3": [("r1", 0.7)], "t4": [("r1", 0.3)]}
    found = drawn(
        "neighbours",
        folder,
        {"neighbours": {"sketch": {
            "full": nearest(folder / "full.parquet", pool),
            "photos": nearest(folder / "photos.parquet", photos)}},
         "tests": {"sketch": image_set(folder, "tests", list(pool))},
         "bases": {"pool": image_set(folder, "pool", ["p1", "p2"]),
                   "photos": image_set(folder, "reference", ["r1"])}},
        {"sets": ["sketch"], "bases": ["full", "photos"], "queries": 4, "shown": 2},
    )  # fmt: skip
    expected = []
    for test in ("t2", "t3", "t4", "t1"):  # 0.9, 0.7, 0.6, 0.5
        for base, side in (("full", pool), ("photos", photos)):
            expected += [
                {"test_set": "sketch", "base": base, "test_key": test, "rank": rank, "key": key}
                | {"similarity": value}
                for rank, (key, value) in enumerate(side[test])
            ]
    same(found, expected)


@case("ruler")
def ruler(folder: Path) -> None:
    """From 0.9 to 0.1 in steps of 0.4; 0.5 goes to t2 and c, since t1 and a are used."""
    pairs = {
        "t1": [("a", 0.9), ("b", 0.5)], "t2": [("a", 0.55), ("c", 0.6)],
        "t3": [("b", 0.72), ("d", 0.1)],
    }  # fmt: skip
    found = drawn(
        "ruler",
        folder,
        {"neighbours": {"sketch": {"full": nearest(folder / "n.parquet", pairs)}},
         "tests": {"sketch": image_set(folder, "tests", list(pairs))},
         "bases": {"pool": image_set(folder, "pool", list("abcd"))}},
        {"sets": ["sketch"], "bases": ["full"], "steps": 3},
    )  # fmt: skip
    shared = {"test_set": "sketch", "base": "full"}
    same(
        found,
        [
            shared | {"test_key": "t1", "rank": 0, "key": "a", "similarity": 0.9},
            shared | {"test_key": "t2", "rank": 1, "key": "c", "similarity": 0.6},
            shared | {"test_key": "t3", "rank": 1, "key": "d", "similarity": 0.1},
        ],
    )


@case("similarity_gap")
def similarity_gap(folder: Path) -> None:
    sides = {"photos": [0.4, 0.0, 0.2, 0.3, 0.1], "full": [0.5, 0.0, 0.1, 0.4, 0.3]}
    files = {
        base: nearest(folder / f"{base}.parquet", {f"t{i}": [("x", v)] for i, v in enumerate(side)})
        for base, side in sides.items()
    }
    found = drawn(
        "similarity_gap", folder, {"neighbours": {"sketch": files}},
        {"sets": ["sketch"], "bases": list(sides)},
    )  # fmt: skip
    shared = {"test_set": "sketch", "n": 5, "compared_with": "photos"}
    same(
        found,
        [
            shared | {"base": "photos", "mean": 0.2, "lowest": 0, "q05": 0.02, "q25": 0.1}
            | {"median": 0.2, "q75": 0.3, "q95": 0.38, "highest": 0.4}
            | {"share_closer": 0, "share_equal": 1},
            shared | {"base": "full", "mean": 0.26, "lowest": 0, "q05": 0.02, "q25": 0.1}
            | {"median": 0.3, "q75": 0.4, "q95": 0.48, "highest": 0.5}
            | {"share_closer": 0.6, "share_equal": 0.2},
        ],
    )  # fmt: skip


@case("density")
def density(folder: Path) -> None:
    """Counts 10, 4, 0, 6, 20 above 0.5, and 1, 0, 0, 0, 4 above 0.8; bands are the quartiles."""
    counts = {0.8: [1, 0, 0, 0, 4], 0.5: [10, 4, 0, 6, 20]}
    path = write(
        folder / "d.parquet",
        test_key=[f"t{i}" for _ in counts for i in range(5)],
        above=[above for above in counts for _ in range(5)],
        count=[n for side in counts.values() for n in side],
    )
    found = drawn(
        "density", folder, {"density": {"sketch": {"full": path}}},
        {"sets": ["sketch"], "bases": ["full"], "band": [0.25, 0.75]},
    )  # fmt: skip
    shared = {"test_set": "sketch", "base": "full", "n": 5}
    same(
        found,
        [
            shared | {"above": 0.5, "median": 6, "low": 4, "high": 10, "mean": 8}
            | {"share_without": 0.2},
            shared | {"above": 0.8, "median": 0, "low": 0, "high": 1, "mean": 1}
            | {"share_without": 0.6},
        ],
    )  # fmt: skip


KEYS = ["a", "b", "c", "d", "e", "f"]
# Margins of the points; f is a duplicate, and counts nowhere.
SKETCH = [0.3, 0.1, -0.2, 0.0, 0.5, 0.9]
VAL = [-0.1, 0.2, 0.4, -0.3, 0.5, 0.9]


def removable(folder: Path, margins: list[float]) -> dict[str, object]:
    """In two shards that are cut elsewhere than those of the candidates."""
    return shards(
        folder,
        {"key": KEYS[:2], "margin": margins[:2]},
        {"key": KEYS[2:], "margin": margins[2:]},
    )


def candidates(folder: Path) -> dict[str, object]:
    dropped = [False] * 5 + [True]
    return shards(
        folder,
        {"key": KEYS[:4], "dropped": dropped[:4]},
        {"key": KEYS[4:], "dropped": dropped[4:]},
    )


@case("tolerance")
def tolerance(folder: Path) -> None:
    split = {
        "counts": step_counts(folder, "pruned", 5, 2, 2),
        "sets": {
            name: [answers(folder / name, "pruned-m-s0", said)]
            for name, said in (("sketch", "1100"), ("val", "1000"))
        },
    }
    found = drawn(
        "tolerance",
        folder,
        {"candidates": candidates(folder / "dropped"),
         "margins": {"sketch": removable(folder / "s", SKETCH),
                     "val": removable(folder / "v", VAL)},
         "evaluations": {"pruned": split}},
        {"sets": ["sketch", "val"], "tolerances": [0.25, 0.0], "splits": ["pruned"]},
        {"recipes": {"pruned": {"sets": ["val", "sketch"], "tolerance": 0.1}}},
    )  # fmt: skip
    none = dict.fromkeys(("split", "test_set", "seeds", "n", "top1", "top1_low", "top1_high"))
    # sketch: a, b, e above 0; a, e above 0.25. val: b, c, e; c, e. Either: a, b, c, e; a, c, e.
    counts = {"sketch": (3, 2), "val": (3, 2), "union": (4, 3)}
    expected = [
        {"driven_by": name, "tolerance": t, "candidates": 5, "removed": n, "share_removed": n / 5}
        | none
        for name, both in counts.items()
        for t, n in zip((0.0, 0.25), both, strict=True)
    ]
    for name, k in (("sketch", 2), ("val", 1)):
        low, high = exact(k, 4)
        expected.append(
            {"driven_by": "union", "tolerance": 0.1, "candidates": 5, "removed": 3}
            | {"share_removed": 0.6, "split": "pruned", "test_set": name, "seeds": 1, "n": 4}
            | {"top1": k / 4, "top1_low": low, "top1_high": high}
        )
    same(found, expected)


@case("overlap")
def overlap(folder: Path) -> None:
    found = drawn(
        "overlap",
        folder,
        {"candidates": candidates(folder / "dropped"),
         "margins": {"one": {"sketch": removable(folder / "1", SKETCH)},
                     "two": {"sketch": removable(folder / "2", VAL)}}},
        {"sets": ["sketch"], "encoders": ["one", "two"], "tolerances": [0.6, 0.0]},
    )  # fmt: skip
    shared = {"test_set": "sketch", "candidates": 5}
    same(
        found,
        [
            shared | {"tolerance": 0, "removed_by_one": 3, "removed_by_two": 3}
            | {"removed_by_both": 2, "jaccard": 0.5},
            shared | {"tolerance": 0.6, "removed_by_one": 0, "removed_by_two": 0}
            | {"removed_by_both": 0, "jaccard": None},
        ],
    )  # fmt: skip


@case("encoders")
def encoders(folder: Path) -> None:
    rng = np.random.default_rng(1)
    one = rng.random(60)
    sides = {"one": one, "two": 0.5 * one + 0.5 * rng.random(60)}
    files = {
        encoder: {"sketch": {"full": nearest(
            folder / f"{encoder}.parquet", {f"t{i:02d}": [("x", v)] for i, v in enumerate(side)}
        )}}
        for encoder, side in sides.items()
    }  # fmt: skip
    (row,) = drawn(
        "encoders", folder, {"neighbours": files},
        {"sets": ["sketch"], "bases": ["full"], "encoders": ["one", "two"], "draws": 500},
    )  # fmt: skip
    rho = stats.spearmanr(*sides.values()).statistic
    drawn_again = stats.bootstrap(
        tuple(sides.values()), lambda x, y: stats.spearmanr(x, y).statistic, paired=True,
        vectorized=False, n_resamples=500, method="percentile", rng=0,
    ).confidence_interval  # fmt: skip
    same(
        [row],
        [
            {"base": "full", "test_set": "sketch", "encoder": "one", "other_encoder": "two"}
            | {"n": 60, "rho": rho, "rho_low": pytest.approx(drawn_again.low, abs=0.05)}
            | {"rho_high": pytest.approx(drawn_again.high, abs=0.05)}
            | {"median": float(np.median(one)), "other_median": float(np.median(sides["two"]))}
        ],
    )
