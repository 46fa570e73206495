"""Cases of the kinds in the report's section on accuracy."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.unit.rows_case import (
    Row,
    answers,
    case,
    drawn,
    exact,
    nearest,
    published,
    rows,
    same,
    step_counts,
)

PAPER = "published (arXiv:2310.09562)"


def evaluations(folder: Path) -> Row:
    """Two splits of a pool of 100, with two seeds each, on a test set of eight images."""
    runs = {"full": ("11111100", "11110000"), "near": ("11000000", "11000000")}
    accounts = {
        "full": step_counts(folder, "full", 100, 100, 120),
        "near": step_counts(folder, "near", 100, 60, 60),
    }
    return {
        split: {
            "counts": accounts[split],
            "sets": {"sketch": [answers(folder, f"{split}-m-s{i}", c) for i, c in enumerate(said)]},
        }
        for split, said in runs.items()
    }


FULL, NEAR = exact(5, 8), exact(2, 8)  # means over both seeds


@case("pruned")
def pruned(folder: Path) -> None:
    files = evaluations(folder)
    accounts = {split: entry["counts"] for split, entry in files.items()}
    found = drawn(
        "pruned",
        folder,
        {"evaluations": files, "counts": accounts},
        {"splits": ["full", "near"], "sets": ["sketch"], "published": {"near": "sketch"},
         "published_sets": {"sketch": "sketch"}},
    )  # fmt: skip
    paper = published("similarity_pruning")
    row, none = paper["rows"]["sketch"], dict.fromkeys(
        f"published_{k}" for k in ("split", "removed", "share", "confidence", "set", "n", "top1")
    )  # fmt: skip
    shared = {"pool_points": 100, "test_set": "sketch", "seeds": 2, "n": 8}
    same(
        found,
        [
            shared | {"split": "full", "reference_added": 20, "points_removed": 0}
            | {"share_removed": 0, "top1": 0.625, "top1_low": FULL[0], "top1_high": FULL[1]} | none,
            shared | {"split": "near", "reference_added": 0, "points_removed": 40}
            | {"share_removed": 0.4, "top1": 0.25, "top1_low": NEAR[0], "top1_high": NEAR[1]}
            | {"published_split": row["trained_on"], "published_removed": row["removed"]}
            | {"published_share": row["removed"] / paper["pool"]["points"]}
            | {"published_confidence": row["confidence"], "published_set": "sketch"}
            | {"published_n": paper["sizes"]["sketch"], "published_top1": row["top1"]["sketch"]},
        ],
    )  # fmt: skip


@case("accuracy_vs_pruned")
def accuracy_vs_pruned(folder: Path) -> None:
    found = drawn(
        "accuracy_vs_pruned",
        folder,
        {"evaluations": evaluations(folder)},
        {"sets": ["sketch"], "baseline": "full", "lines": {"nearest": ["near"]}, "axis": "share",
         "published": {"sets": {"sketch": "sketch"}, "lines": {"nearest": "near"}}},
    )  # fmt: skip
    paper = published("similarity_pruning")
    shared = {"test_set": "sketch", "line": "nearest"}
    ours = shared | {"series": "ours", "seeds": 2, "n": 8}
    theirs = shared | {"series": f"{PAPER}: sketch", "split": "near", "seeds": 1}
    theirs |= {"n": 50889, "top1_low": None, "top1_high": None, "top1_of_seeds": None}
    same(
        found,
        [
            ours | {"split": "full", "points_pruned": 0, "share_pruned": 0, "top1": 0.625}
            | {"top1_low": FULL[0], "top1_high": FULL[1], "top1_of_seeds": "0.750000 0.500000"},
            ours | {"split": "near", "points_pruned": 40, "share_pruned": 0.4, "top1": 0.25}
            | {"top1_low": NEAR[0], "top1_high": NEAR[1], "top1_of_seeds": "0.250000 0.250000"},
            *(
                theirs | {"points_pruned": n, "share_pruned": n / 200_000_000, "top1": top1}
                for n, top1 in zip(
                    paper["curves"]["points_pruned"], paper["curves"]["sketch"]["near"], strict=True
                )
            ),
        ],
    )  # fmt: skip


@case("accuracy_vs_similarity")
def accuracy_vs_similarity(folder: Path) -> None:
    """Edges belong to the bin above; a test image is as near as its nearest point of all bases."""
    pool = [0.15, 0.19, 0.12, 0.31, 0.38, 0.45, 0.1, 0.52]
    photos = [0.10, 0.05, 0.35, 0.20, 0.10, 0.48, 0.2, 0.30]
    near = np.maximum(pool, photos)  # .15 .19 .35 .31 .38 .48 .20 .52
    correct = "01011101"
    keys = [f"k{i:04d}" for i in range(8)]
    bases = [
        nearest(folder / f"{name}.parquet", {k: [("x", side[i])] for i, k in enumerate(keys)})
        for name, side in (("pool", pool), ("photos", photos))
    ]
    found = drawn(
        "accuracy_vs_similarity",
        folder,
        {"neighbours": {"sketch": bases},
         "predictions": {"sketch": [answers(folder, "full-m-s0", correct)]}},
        {"sets": ["sketch"], "split": "full", "width": 0.1, "draws": 200,
         "published": {"sketch": "sketch"}},
    )  # fmt: skip
    right = np.array([c == "1" for c in correct])
    bins = {0.1: [0, 1], 0.2: [6], 0.3: [2, 3, 4], 0.4: [5], 0.5: [7]}
    expected: list[Row] = []
    for low, images in bins.items():
        n, k = len(images), int(right[images].sum())
        ends = exact(k, n)
        expected.append(
            {"test_set": "sketch", "series": "full", "seeds": 1, "bin_low": low, "n": n}
            | {"bin_high": low + 0.1, "similarity": float(near[images].mean()), "top1": k / n}
            | {"top1_low": ends[0], "top1_high": ends[1]}
        )
    paper = published("similarity_pruning")["bins"]["sketch"]
    theirs = dict.fromkeys(expected[0]) | {"test_set": "sketch", "seeds": 1}
    theirs |= {"series": f"{PAPER}: sketch"}
    points = zip(paper["similarity"], paper["top1"], strict=True)
    same(found, expected + [theirs | {"similarity": x, "top1": y} for x, y in points])
    over = {
        "bins": ([float(near[i].mean()) for i in bins.values()],
                 [float(right[i].mean()) for i in bins.values()]),
        "images": (near, right),
    }  # fmt: skip
    ours = rows(folder / "rho.csv")
    for row, (name, (x, y)) in zip(ours[:2], over.items(), strict=True):
        rho = float(stats.spearmanr(x, y).statistic)
        assert (row["over"], int(row["n"])) == (name, len(x))
        assert float(row["rho"]) == pytest.approx(rho, abs=1e-6)
        assert -1 <= float(row["rho_low"]) < rho < float(row["rho_high"]) <= 1
    assert (float(ours[2]["rho"]), ours[2]["rho_low"]) == (paper["rho"], "")


@case("effective_robustness")
def effective_robustness(folder: Path) -> None:
    """In linear space: the residuals of an ordinary fit to the baseline, in points."""
    accuracies = {"a": (0.3, 0.2), "b": (0.5, 0.26), "c": (0.6, 0.4), "d": (0.8, 0.42)}
    other = (0.55, 0.5)

    def run(name: str, pair: tuple[float, float]) -> dict[str, list[str]]:
        return {
            test: [
                answers(
                    folder / test, f"{name}-m-s0",
                    "".join("1" if i < round(100 * share) else "0" for i in range(100)),
                )
            ]
            for test, share in zip(("val", "sketch"), pair, strict=True)
        }  # fmt: skip

    runs = {name: run(name, pair) for name, pair in (accuracies | {"new": other}).items()}
    found = drawn(
        "effective_robustness",
        folder,
        {"runs": runs},
        {"id": ["val"], "shifts": ["sketch"], "baseline": list(accuracies),
         "groups": {"other data": ["new"]}, "space": "linear", "draws": 200},
    )  # fmt: skip
    x, y = np.array(list(accuracies.values())).T
    slope, intercept = np.polyfit(x, y, 1)
    residual = y - slope * x - intercept
    r2, spread = 1 - residual @ residual / ((y - y.mean()) @ (y - y.mean())), residual.std()
    for row, (name, pair) in zip(found, [*accuracies.items(), ("new", other)], strict=True):
        expected = intercept + slope * pair[0]
        ends = float(row["rho_low"]), float(row["rho_high"])
        same(
            [row],
            [
                {"shift": "sketch", "group": "other data" if name == "new" else "baseline"}
                | {"run": f"{name}-m-s0", "id_val": 100 * pair[0], "shift_accuracy": 100 * pair[1]}
                | {"predicted": 100 * expected, "rho": 100 * (pair[1] - expected)}
                | {"rho_low": ends[0], "rho_high": ends[1], "extrapolated": "False"}
                | {"baseline_runs": 4, "slope": f"{slope:.4f}", "intercept": intercept, "r2": r2}
                | {"spread": 100 * spread}
            ],
        )
        # Wider than the interval over the test images of the shift alone.
        low, high = exact(round(100 * pair[1]), 100)
        assert ends[0] < 100 * (low - expected) and 100 * (high - expected) < ends[1]


@case("per_class")
def per_class(folder: Path) -> None:
    similar = {f"k{i:04d}": [("x", v)] for i, v in enumerate((0.2, 0.5, 0.3, 0.9, 0.7, 0.1))}
    runs = [
        answers(folder, f"full-m-s{i}", c, "010110", classes=["cat", "dog"])
        for i, c in enumerate(("101110", "001010"))
    ]
    found = drawn(
        "per_class",
        folder,
        {"predictions": {"full": {"sketch": runs}},
         "neighbours": {"full": {"sketch": [nearest(folder / "n.parquet", similar)]}}},
        {"splits": ["full"], "sets": ["sketch"]},
    )  # fmt: skip
    # cat: images 0, 2, 5, right 1 1 0 and 0 1 0; dog: 1, 3, 4, right 0 1 1 and 0 0 1.
    ends = stats.beta.ppf(0.025, 1.5, 2.5), stats.beta.ppf(0.975, 2.5, 1.5)
    shared = {"split": "full", "model": "m", "seeds": 2, "test_set": "sketch", "n": 3}
    shared |= {"top1": 0.5, "top1_low": float(ends[0]), "top1_high": float(ends[1])}
    same(
        found,
        [
            shared | {"class": "cat", "similarity": 0.2},
            shared | {"class": "dog", "similarity": 0.7},
        ],
    )


@case("seeds")
def seeds(folder: Path) -> None:
    said = ("1110000000", "1111110000", "1111111110")
    runs = [answers(folder, f"full-m-s{i}", c) for i, c in enumerate(said)]
    found = drawn(
        "seeds", folder, {"predictions": {"full": {"sketch": runs}}},
        {"splits": ["full"], "sets": ["sketch"]},
    )  # fmt: skip
    values = [0.3, 0.6, 0.9]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    ends = exact(6, 10)
    same(
        found,
        [
            {"split": "full", "model": "m", "test_set": "sketch", "seeds": 3, "n": 10}
            | {"mean": 0.6, "sd": statistics.stdev(values), "t_low": low, "t_high": high}
            | {"images_low": ends[0], "images_high": ends[1]}
            | {"top1_of_seeds": "0:0.300000 1:0.600000 2:0.900000"}
        ],
    )


@case("accuracy_by_epoch")
def accuracy_by_epoch(folder: Path) -> None:
    reports: dict[str, list[str]] = {"full": [], "near": []}
    right = {("full", 1): 2, ("full", 2): 5, ("near", 1): 1, ("near", 2): 8}
    for (split, epoch), count in right.items():
        low, high = exact(count, 8)
        entry = {"n": 8, "top1": count / 8, "top1_low": low, "top1_high": high}
        file = folder / f"{split}-m-s0-epoch{epoch}.json"
        other = entry | {"top1": 0.0}
        report = {"seed": 0, "epoch": epoch, "samples_seen": 100 * epoch}
        file.write_text(json.dumps(report | {"sets": {"sketch": entry, "val": other}}))
        reports[split].append(str(file))
    found = drawn(
        "accuracy_by_epoch", folder, {"reports": reports},
        {"splits": ["near", "full"], "sets": ["sketch"]},
    )  # fmt: skip
    same(
        found,
        [
            {"split": split, "test_set": "sketch", "seed": 0, "epoch": epoch}
            | {"samples_seen": 100 * epoch, "n": 8, "top1": count / 8}
            | dict(zip(("top1_low", "top1_high"), exact(count, 8), strict=True))
            for (split, epoch), count in right.items()
        ],
    )
