"""Cases of the kinds in the report's section on domains."""

import json
from pathlib import Path

import numpy as np
from scipy.special import betaincinv

from tests.unit.rows_case import (
    Row,
    answers,
    around,
    case,
    drawn,
    exact,
    image_set,
    published,
    same,
    shards,
    write,
    write_json,
)

PAPER = "published (arXiv:2410.08258)"
N = 200
# Clean sets, one of photos and two of drawings, and shares of correct images of two splits.
SETS = {"photos": "natural", "art": "rendition", "toys": "rendition"}
Shares = dict[str, dict[str, float]]
SHARES: Shares = {
    "base": {"photos": 0.5, "art": 0.6, "toys": 0.4},
    "other": {"photos": 0.55, "art": 0.3, "toys": 0.2},
}


def accuracies(folder: Path, splits: Shares = SHARES) -> Row:
    """Clean sets that keep every image, and what one run of each split says of them."""
    keys = [f"k{i:04d}" for i in range(N)]
    clean = {}
    for name, domain in SETS.items():
        clean[name] = write(folder / f"clean/{name}.parquet", key=keys, kept=[True] * N)
        write_json(folder / f"clean/{name}.json", {"domain": domain})
    return {
        "clean": clean,
        "predictions": {
            split: {
                name: [answers(folder / name, f"{split}-m-s0", said(share))]
                for name, share in shares.items()
            }
            for split, shares in splits.items()
        },
    }


def said(share: float) -> str:
    return "".join("1" if i < round(share * N) else "0" for i in range(N))


def draws(splits: Shares, domain: str) -> dict[str, np.ndarray]:
    """Per split its mean over the sets of a domain, on images that all splits share."""
    rng = np.random.default_rng(9)
    sets = [name for name, of in SETS.items() if of == domain]
    chosen = {name: rng.integers(0, N, (4000, N)) for name in sets}
    return {
        split: np.mean([(chosen[s] < round(shares[s] * N)).mean(1) for s in sets], axis=0)
        for split, shares in splits.items()
    }


def interval(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


BLOCK = {"clean": list(SETS), "splits": ["other"], "draws": 2000}
BOTH = BLOCK | {"splits": ["base", "other"]}
MIXES = {"mixes": {"other": [300, 100, 0], "base": [0, 0, 400]}}
NATURAL, ART = (draws(SHARES, domain) for domain in ("natural", "rendition"))
# Domain -> split -> mean accuracy and its interval.
MEANS = {
    "natural": {
        "base": (0.5, interval(NATURAL["base"])),
        "other": (0.55, interval(NATURAL["other"])),
    },
    "rendition": {"base": (0.5, interval(ART["base"])), "other": (0.25, interval(ART["other"]))},
}


def ends(low: str, high: str, pair: tuple[float, float], within: float = 0.015) -> Row:
    return dict(zip((low, high), around(*pair, within), strict=True))


@case("domain_bars")
def domain_bars(folder: Path) -> None:
    block = BLOCK | {"baseline": "base", "published": {"other": "laion_natural"}}
    found = drawn("domain_bars", folder, accuracies(folder), block)
    paper = published("domains")["arms"]["laion_natural"]
    less = {
        "natural": (0.05, interval(NATURAL["other"] - NATURAL["base"])),
        "rendition": (-0.25, interval(ART["other"] - ART["base"])),
    }
    expected = []
    for domain, means in MEANS.items():
        sets = [name for name, of in SETS.items() if of == domain]
        shared = {"domain": domain, "sets": " ".join(sets), "variant": "clean_restricted"}
        shared |= {"n": N * len(sets), "seeds": 1, "published": None, "published_accuracy": None}
        for split, (mean, pair) in means.items():
            row = shared | {"split": split, "less_split": "", "accuracy": mean}
            if split == "other":
                row |= {"published": paper["trained_on"]}
                row |= {"published_accuracy": paper["means"][domain]}
            expected.append(row | ends("low", "high", pair))
        mean, pair = less[domain]
        row = shared | {"split": "other", "less_split": "base", "accuracy": mean}
        expected.append(row | ends("low", "high", pair))
    same(found, expected)


@case("domain_relative")
def domain_relative(folder: Path) -> None:
    """Less chance, which is a half for two classes."""
    splits = {
        "base": {"photos": 0.7, "art": 0.8, "toys": 0.7},
        "other": {"photos": 0.8, "art": 0.6, "toys": 0.6},
    }
    natural, art = (
        interval((drawn["other"] - 0.5) / (drawn["base"] - 0.5))
        for drawn in (draws(splits, domain) for domain in ("natural", "rendition"))
    )
    files = accuracies(folder, splits)
    block = BLOCK | {"baseline": "base", "published": {"other": "laion_natural"}}
    found = drawn("domain_relative", folder, files, block)
    shared = {"split": "other", "baseline": "base", "variant": "clean_restricted"}
    shared |= {"correction": "chance", "taken_off": 0.5, "taken_off_baseline": 0.5, "seeds": 1}
    paper = published("domains")["arms"]["laion_natural"]
    same(
        found,
        [
            shared | {"domain": "natural", "sets": "photos", "relative": 0.3 / 0.2}
            | ends("low", "high", natural, 0.06) | {"published": None}
            | {"published_confidence": None},
            shared | {"domain": "rendition", "sets": "art toys", "relative": 0.1 / 0.25}
            | ends("low", "high", art)
            | {"published": paper["relative_corrected"]["rendition"]}
            | {"published_confidence": paper["relative_confidence"]},
        ],
    )  # fmt: skip


@case("domain_mixes")
def domain_mixes(folder: Path) -> None:
    found = drawn(
        "domain_mixes", folder, accuracies(folder), BOTH | {"published": ["laion"]}, MIXES
    )
    paper = published("domains")["arms"]["laion"]
    expected: list[Row] = [
        {"split": "base", "natural": 0, "rendition": 0, "random": 400, "total": 400},
        {"split": "other", "natural": 300, "rendition": 100, "random": 0, "total": 400},
    ]
    for row in expected:
        row.update(seeds=1, variant="clean_restricted")
        for domain, means in MEANS.items():
            mean, pair = means[row["split"]]
            row.update({f"{domain}_accuracy": mean})
            row.update(ends(f"{domain}_low", f"{domain}_high", pair))
    theirs = dict.fromkeys(expected[0]) | {"split": f"{PAPER}: {paper['trained_on']}"}
    theirs |= {f"{domain}_accuracy": paper["means"][domain] for domain in MEANS}
    same(found, [*expected, theirs])


@case("domain_sizes")
def domain_sizes(folder: Path) -> None:
    found = drawn("domain_sizes", folder, accuracies(folder), BOTH, MIXES)
    made_of = {
        "other": {"line": "75 % natural", "natural": 300, "rendition": 100, "random": 0},
        "base": {"line": "random", "natural": 0, "rendition": 0, "random": 400},
    }
    same(
        found,
        [
            {"domain": domain, "split": split, "total": 400, "variant": "clean_restricted"}
            | {"seeds": 1, "accuracy": MEANS[domain][split][0], **own}
            | ends("low", "high", MEANS[domain][split][1])
            for domain in MEANS
            for split, own in made_of.items()
        ],
    )


@case("domain_robustness")
def domain_robustness(folder: Path) -> None:
    found = drawn("domain_robustness", folder, accuracies(folder), BOTH, MIXES)
    expected = []
    for split, made_of in (("base", "random 400"), ("other", "300 : 100")):
        for name in ("art", "toys"):
            low, high = exact(round(SHARES[split][name] * N), N)
            expected.append(
                {"set": name, "split": split, "made_of": made_of, "seeds": 1, "n": N}
                | {"variant": "clean_restricted", "natural_accuracy": SHARES[split]["photos"]}
                | {"top1": SHARES[split][name], "top1_low": low, "top1_high": high}
            )
    same(found, expected)


# Of nine labelled images: the truth (0: natural, 1: rendition, 2: ambiguous) and two scores.
LABELS = [0, 0, 0, 1, 1, 1, 1, 2, 2]
SCORES = {
    "natural": [0.9, 0.8, 0.3, 0.6, 0.2, 0.1, 0.0, 0.7, 0.1],
    "rendition": [0.1, 0.2, 0.4, 0.5, 0.9, 0.8, 0.3, 0.6, 0.0],
}
THRESHOLDS = {"natural": 0.65, "rendition": 0.5}


def labelled(folder: Path) -> Row:
    """A classifier's scores of a labelled set in two shards, and its thresholds."""
    keys = [f"i{i}" for i in range(len(LABELS))]
    order = [4, 0, 8, 2, 1, 3, 5, 7, 6]
    parts = [
        {"key": [keys[i] for i in part]}
        | {d: np.array([SCORES[d][i] for i in part], np.float32) for d in SCORES}
        for part in (order[:4], order[4:])
    ]
    point = {
        "precision": 0.6,
        "domains": {
            domain: {"threshold": t, "attained": True, "parts": {"test": {**at(domain), "n": 9}}}
            | {"bound_holds": True, "point_estimate": {"threshold": t - 0.25}}
            for domain, t in THRESHOLDS.items()
        },
    }
    return {
        "points": {"c": write_json(folder / "points.json", point)},
        "labels": write(folder / "labels.parquet", key=keys, label=np.array(LABELS, np.int8)),
        "scores": shards(folder / "scores", *parts),
    }


def at(domain: str, threshold: float | None = None) -> Row:
    """Precision and recall at a threshold, counted one by one."""
    limit = THRESHOLDS[domain] if threshold is None else threshold
    place = list(SCORES).index(domain)
    accepted = [i for i in range(len(LABELS)) if SCORES[domain][i] >= limit]
    right = sum(LABELS[i] == place for i in accepted)
    positives = LABELS.count(place)
    found: Row = {"n": len(LABELS), "accepted": len(accepted), "right": right}
    found |= {"positives": positives}
    for name, of in (("precision", len(accepted)), ("recall", positives)):
        low, high = exact(right, of)
        found |= {name: right / of, f"{name}_low": low, f"{name}_high": high}
    return found


@case("domain_detectors")
def domain_detectors(folder: Path) -> None:
    files = labelled(folder)
    found = drawn(
        "domain_detectors",
        folder,
        {"points": files["points"], "labels": {"sketch": files["labels"]},
         "scores": {"c": {"sketch": files["scores"]}}},
        {"classifiers": ["c"]},
        {"classifiers": {"c": {"kind": "linear", "form": "ternary", "encoder": "e"}}},
    )  # fmt: skip
    shared = {"classifier": "c", "kind": "linear", "form": "ternary", "encoder": "e"}
    same(
        found,
        [
            shared | {"domain": domain, "target_precision": 0.6, "attained": "True"}
            | {"bound_holds": "True", "point_estimate": threshold - 0.25}
            | {"threshold": threshold, "set": place, **at(domain)}
            for domain, threshold in THRESHOLDS.items()
            for place in ("sketch", "test")
        ],
    )  # fmt: skip


@case("domain_curves")
def domain_curves(folder: Path) -> None:
    files = labelled(folder)
    found = drawn(
        "domain_curves",
        folder,
        {"points": files["points"], "labels": [files["labels"]], "parts": {},
         "scores": {"c": [files["scores"]]}},
        {"classifiers": ["c"], "set": "sketch"},
    )  # fmt: skip
    expected = []
    for domain, threshold in THRESHOLDS.items():
        shared = {"classifier": "c", "domain": domain, "set": "sketch"}
        limits = [*sorted(set(SCORES[domain])), threshold]
        expected += [
            shared | {"mark": int(i == len(limits) - 1), "threshold": limit}
            | {key: at(domain, limit)[key] for key in ("precision", "recall")}
            for i, limit in enumerate(limits)
        ]  # fmt: skip
    same(found, expected)


# Classifier and encoder as they were recorded -> family, and whether the encoder was tuned.
FAMILIES: list[tuple[Row, Row, str, bool]] = [
    ({"kind": "finetune"}, {"kind": "open_clip", "model": "m", "pretrained": "p"},
     "fine-tuning", True),
    ({"kind": "finetune", "frozen": True}, {"kind": "csd", "weights": "w"},
     "style descriptor", False),
    ({"kind": "finetune", "form": "density_ratio"}, {"kind": "efficientnet_lite0"},
     "density ratio", True),
    ({"kind": "linear", "form": "density_ratio"}, {"kind": "efficientnet_lite0"},
     "density ratio", False),
    ({"kind": "centroid", "distance": "euclidean", "balanced": True},
     {"kind": "timm", "model": "vgg19", "weights": "w"}, "centroid", False),
    ({"kind": "knn", "size": 6}, {"kind": "csd", "weights": "w"}, "style descriptor", False),
    ({"kind": "knn"}, {"kind": "efficientnet_lite0"}, "knn", False),
]  # fmt: skip


@case("domain_families")
def domain_families(folder: Path) -> None:
    """Average precision counted by hand: the mean over positives of the precision down to each."""
    files = labelled(folder)
    areas = {
        "natural": (1 + 1 + 3 / 5) / 3,  # images in the order 0 1 7 3 2
        "rendition": (1 + 1 + 3 / 4 + 4 / 6) / 4,  # 4 5 7 3 2 6
    }
    names = [f"c{i}" for i in range(len(FAMILIES))]
    records, expected = {}, []
    for number, (name, (block, encoder, of, tuned)) in enumerate(zip(names, FAMILIES, strict=True)):
        record = {
            "spec": {"classifier": block | {"encoder": f"e{name}"}, "encoder": encoder}
            | {"parts": {"validation": 0.2, "test": 0.2, "seed": 0}},
            "learned_from": {"natural": 3, "rendition": number, "ambiguous": 1},
        }
        records[name] = write_json(folder / f"{name}.json", record)
        for domain, threshold in THRESHOLDS.items():
            counted = at(domain)
            right, all_of = areas[domain] * counted["positives"], counted["positives"]
            low = betaincinv(right, all_of - right + 1, 0.025)
            high = betaincinv(right + 1, all_of - right, 0.975)
            expected.append(
                {"family": of, "classifier": name, "kind": block["kind"]}
                | {"form": block.get("form", "ternary"), "encoder": f"e{name}", "tuned": str(tuned)}
                | {"balanced": str(block.get("balanced", False)), "labels": 4 + number}
                | {"domain": domain, "set": "sketch", "target_precision": 0.6, "attained": "True"}
                | {"threshold": threshold, **counted, "average_precision": areas[domain]}
                | {"average_precision_low": low, "average_precision_high": high}
            )
    found = drawn(
        "domain_families",
        folder,
        {"points": dict.fromkeys(names, files["points"]["c"]), "labels": [files["labels"]],
         "parts": {}, "scores": {n: [files["scores"]] for n in names}, "records": records},
        {"classifiers": names, "set": "sketch"},
    )  # fmt: skip
    same(found, expected)


@case("domain_samples")
def domain_samples(folder: Path) -> None:
    """All of each decision: at random in any order, then the most confident first."""
    scored = {
        "natural": {"a": (0.7, 0.1), "b": (0.9, 0.2), "c": (0.8, 0.4)},
        "rendition": {"d": (0.1, 0.6), "e": (0.0, 0.9)},
        # The smaller distance above the two thresholds; none: the larger one below them.
        "both": {"f": (0.7, 0.95), "g": (0.9, 0.6)},
        "neither": {"h": (0.6, 0.0), "i": (0.1, 0.2)},
    }
    order = {"natural": "bca", "rendition": "ed", "both": "gf", "neither": "ih"}
    every = [(k, v, *pair) for v, images in scored.items() for k, pair in images.items()]
    keys, decisions, natural, rendition = zip(*every, strict=True)
    columns = {"key": keys, "verdict": decisions, "natural": natural, "rendition": rendition}
    files = write(folder / "v.parquet", **{k: list(v) for k, v in columns.items()})
    points = {
        d: write_json(folder / f"{d}.json", {"domains": {d: {"threshold": t}}})
        for d, t in THRESHOLDS.items()
    }
    found = drawn(
        "domain_samples",
        folder,
        {"points": points,
         "datasets": {"pool": {"verdicts": [files], **image_set(folder, "pool", keys)}}},
        {"datasets": ["pool"], "shown": 4},
    )  # fmt: skip
    for decision, images in scored.items():
        mine = [r for r in found if r["verdict"] == decision]
        half = len(images)
        assert sorted(r["key"] for r in mine[:half]) == sorted(images)
        same(
            mine,
            [
                {"verdict": decision, "of": half, "place": i, "key": key, "dataset": "pool"}
                | {"chosen": how, "natural": images[key][0], "rendition": images[key][1]}
                for how, chosen in (
                    ("random", [r["key"] for r in mine[:half]]),
                    ("by confidence", list(order[decision])),
                )
                for i, key in enumerate(chosen)
            ],
        )


@case("domain_composition")
def domain_composition(folder: Path) -> None:
    shares = {
        "natural": {"share": 0.3, "low": 0.2, "high": 0.4},
        "rendition": {"share": 0.6, "low": 0.5, "high": 0.7},
        "ambiguous": {"share": 0.1, "low": 0.0, "high": 0.2},
    }
    decisions = {"natural": 30, "rendition": 55, "neither": 13, "both": 2}
    entry = {"n": 100, "verdicts": decisions, "corrected": shares, "labelled": {"natural": 5}}
    bare = entry | {"labelled": {}}
    text = json.dumps({"datasets": {"pool": entry, "sketch": bare}})
    (folder / "composition.json").write_text(text)
    found = drawn(
        "domain_composition", folder, {"composition": str(folder / "composition.json")},
        {"published": {"pool": "laion_200m"}},
    )  # fmt: skip
    row: Row = {"n": 100, **{f"verdict_{v}": n for v, n in decisions.items()}}
    row |= {f"{d}_{key}": v for d, values in shares.items() for key, v in values.items()}
    row |= dict.fromkeys(f"labelled_{d}" for d in shares)
    none = dict.fromkeys(("published_n", "published_natural_share", "published_rendition_share"))
    paper = published("domains")["composition"]["laion_200m"]
    same(
        found,
        [
            row | {"dataset": "pool", "labelled_natural": 5, "published_n": paper["points"]}
            | {f"published_{d}_share": paper[d] / paper["points"] for d in MEANS},
            row | {"dataset": "sketch"} | none,
        ],
    )  # fmt: skip


@case("domain_clean")
def domain_clean(folder: Path) -> None:
    entry = {
        "set": "sketch", "domain": "rendition", "classes": {"cat": 4, "dog": 2},
        "classes_before": 4, "classes_gone": ["cow", "owl"],
        "account": {"in": 12, "out": 6, "rejected": {"decision: natural": 5, "few": 1}},
    }  # fmt: skip
    files = {"clean": {"drawings": write_json(folder / "clean.json", entry)}}
    block = {"clean": ["drawings"], "published": {"drawings": "r"}}
    paper = published("domains")["clean"]["r"]
    same(
        drawn("domain_clean", folder, files, block),
        [
            {"clean_set": "drawings", "set": "sketch", "domain": "rendition"}
            | {"pictures_before": 12, "pictures": 6, "classes_before": 4, "classes": 2}
            | {"dropped": "5 decision: natural; 1 few", "classes_gone": "cow, owl"}
            | {"published_set": "r", "published_pictures_before": paper.get("pictures_before")}
            | {"published_classes": paper.get("classes")}
        ],
    )
