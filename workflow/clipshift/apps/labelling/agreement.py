"""How far annotators agree: Cohen's kappa of pairs, Fleiss' kappa, Krippendorff's alpha.

Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20
(1960); Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76
(1971); Hayes and Krippendorff, Answering the call for a standard reliability measure for coding
data, Communication Methods and Measures 1 (2007). Intervals are percentile bootstraps over images.
All values depend on an image only through its pattern of labels, so the draws are multinomial over
the patterns that occur.
"""

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.apps.labelling.table import LABELS, RESERVED

DRAWS = 2000
LEVEL = 0.95
UNNAMED = "(unnamed)"  # the annotator of rows that name none


def agreement(labels: pa.Table, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Agreement of the annotators of a table of labels (see `table.SCHEMA`).

    Adjudicated labels are left out: they are made from the others. A kappa or alpha is null where
    it is not defined (no image in common, or everybody used one label only).

    Returns:
        `annotators`: {name: {"natural": n, ...}}; `pairs`: for every two annotators the images
        both labelled, their 3 x 3 table, the share of equal labels, kappa and interval; `fleiss`:
        the same over the images that all labelled, null with fewer than two annotators;
        `krippendorff`: alpha and interval over the images with two labels or more, likewise;
        `pictures`, `labelled_twice` and `disagreements`: how many images.
    """
    names, matrix = label_matrix(labels)
    rng = np.random.default_rng(seed)
    several = (matrix >= 0).sum(1) > 1
    return {
        "annotators": {
            name: {label: int((matrix[:, i] == n).sum()) for n, label in enumerate(LABELS)}
            for i, name in enumerate(names)
        },
        "pictures": len(matrix),
        "labelled_twice": int(several.sum()),
        "disagreements": int(_disagree(matrix).sum()),
        "pairs": [
            {"a": names[i], "b": names[j]} | cohen(matrix[:, i], matrix[:, j], draws, rng)
            for i, j in combinations(range(len(names)), 2)
        ],
        "fleiss": fleiss(matrix, draws, rng) if len(names) > 1 else None,
        "krippendorff": krippendorff(matrix, draws, rng) if len(names) > 1 else None,
    }


def label_matrix(labels: pa.Table) -> tuple[list[str], np.ndarray]:
    """Annotators by name, and (keys, annotators) int8 labels, -1 where there is none, by key."""
    rows = [
        (r["key"], UNNAMED if r["annotator"] is None else r["annotator"], r["label"])
        for r in labels.to_pylist()
        if r["annotator"] not in RESERVED
    ]
    names = sorted({name for _, name, _ in rows})
    keys = {key: i for i, key in enumerate(sorted({key for key, _, _ in rows}))}
    column = {name: i for i, name in enumerate(names)}
    matrix = np.full((len(keys), len(names)), -1, np.int8)
    for key, name, label in rows:
        matrix[keys[key], column[name]] = label
    return names, matrix


def cohen(a: np.ndarray, b: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Agreement of two annotators over the images that both labelled.

    Args:
        a, b: (n,) labels, -1 where there is none.
    """
    from sklearn.metrics import cohen_kappa_score  # takes a second

    both = (a >= 0) & (b >= 0)
    n = int(both.sum())
    table = np.zeros((len(LABELS), len(LABELS)), int)
    # Not table[a, b] += 1, which counts a pair of labels once however often it comes.
    np.add.at(table, (a[both], b[both]), 1)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # of an undefined kappa, which we report ourselves
        kappa = float(cohen_kappa_score(a[both], b[both])) if n else float("nan")
    drawn = cohen_of_tables(_draw(table.ravel(), draws, rng).reshape(-1, *table.shape))
    observed = float(np.trace(table) / n) if n else None
    return {"n": n, "table": table.tolist(), "observed": observed} | _result("kappa", kappa, drawn)


def cohen_of_tables(tables: np.ndarray) -> np.ndarray:
    """(T,) kappa of (T, C, C) tables of counts; NaN where it is not defined.

    >>> cohen_of_tables(np.array([[[20, 5], [10, 15]]])).round(3).tolist()
    [0.4]
    """
    n = np.maximum(tables.sum((1, 2)), 1)
    observed = np.trace(tables, axis1=1, axis2=2) / n
    expected = (tables.sum(1) * tables.sum(2)).sum(1) / n.astype(float) ** 2
    return _kappa(observed, expected)


def fleiss(matrix: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Agreement of all annotators over the images that all of them labelled.

    Args:
        matrix: (n, m) labels of m annotators, -1 where there is none.
    """
    whole = matrix[(matrix >= 0).all(1)]
    left_out = int(((matrix >= 0).sum(1) > 1).sum()) - len(whole)
    base = {"annotators": matrix.shape[1], "labelled_by_some_only": left_out}
    return base | _of_images("kappa", fleiss_of_counts, whole, draws, rng)


def fleiss_of_counts(patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fleiss' kappa of weighted patterns; NaN where it is not defined.

    Args:
        patterns: (P, C) how many annotators gave each of C labels; every row sums to m >= 2.
        weights: (T, P) how many images have each pattern, for T draws.

    >>> fleiss_of_counts(np.array([[2, 0], [0, 2]]), np.array([[3, 4]])).tolist()
    [1.0]
    """
    if not len(patterns):
        return np.full(len(weights), np.nan)
    m = int(patterns[0].sum())
    n = np.maximum(weights.sum(1), 1)
    equal_pairs = (patterns * (patterns - 1)).sum(1) / (m * (m - 1))  # (P,)
    observed = weights @ equal_pairs / n
    shares = weights @ patterns / (n * m)[:, None]  # (T, C)
    return _kappa(observed, (shares**2).sum(1))


def krippendorff(matrix: np.ndarray, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Nominal alpha of all annotators over the images with two labels or more.

    Args:
        matrix: (n, m) labels of m annotators, -1 where there is none.
    """
    several = matrix[(matrix >= 0).sum(1) > 1]
    base = {"annotators": matrix.shape[1], "labels": int((several >= 0).sum())}
    return base | _of_images("alpha", alpha_of_counts, several, draws, rng)


def alpha_of_counts(patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Krippendorff's nominal alpha of weighted patterns; NaN where it is not defined.

    Observed agreement weighs an image by its number of labels; expected agreement is that of two
    labels drawn from all without replacement.

    Args:
        patterns: (P, C) how many annotators gave each of C labels; rows sum to 2 or more.
        weights: (T, P) how many images have each pattern, for T draws.

    >>> alpha_of_counts(np.array([[2, 0], [0, 3]]), np.array([[3, 4]])).tolist()
    [1.0]
    """
    if not len(patterns):
        return np.full(len(weights), np.nan)
    n = weights @ patterns.sum(1)  # (T,) labels
    equal_pairs = (patterns * (patterns - 1)).sum(1) / (patterns.sum(1) - 1)  # (P,)
    shared = weights @ patterns  # (T, C)
    return _kappa(weights @ equal_pairs / n, (shared * (shared - 1)).sum(1) / (n * (n - 1)))


def _of_images(
    name: str, of_counts: Callable[[np.ndarray, np.ndarray], np.ndarray], matrix: np.ndarray,
    draws: int, rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """A statistic of patterns over the images of a matrix of labels, with its interval."""
    # (n, C): how many annotators gave each label.
    counts = np.stack([(matrix == label).sum(1) for label in range(len(LABELS))], axis=1)
    patterns, times = np.unique(counts, axis=0, return_counts=True)
    drawn = of_counts(patterns, _draw(times, draws, rng))
    return {"n": len(matrix)} | _result(name, float(of_counts(patterns, times[None])[0]), drawn)


def _kappa(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # Everybody used one label only, up to the rounding of the shares.
    undefined = expected >= 1 - 1e-12
    return np.where(undefined, np.nan, (observed - expected) / np.where(undefined, 1, 1 - expected))


def _draw(times: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws, P) bootstrap counts of P patterns that occur `times` times."""
    n = int(times.sum())
    return rng.multinomial(n, times / n, size=draws) if n else np.zeros((draws, len(times)), int)


def _result(name: str, value: float, drawn: np.ndarray) -> dict[str, Any]:
    """A value and its interval. Draws in which it is not defined are left out and counted."""
    defined = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return {name: None, "low": None, "high": None, "undefined_draws": len(drawn)}
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        name: value, "low": float(low), "high": float(high),
        "undefined_draws": len(drawn) - len(defined),
    }  # fmt: skip


def _disagree(matrix: np.ndarray) -> np.ndarray:
    """(n,) whether two annotators gave different labels."""
    high = matrix.max(1, initial=-1)
    low = np.where(matrix >= 0, matrix, len(LABELS)).min(1, initial=len(LABELS))
    different: np.ndarray = high > low
    return different


def lines(found: dict[str, Any]) -> list[str]:
    """The agreement as text for a terminal."""
    out = [
        f"{found['pictures']} images, {found['labelled_twice']} with several labels, "
        f"{found['disagreements']} with different ones"
    ]
    for name, counts in found["annotators"].items():
        out.append(f"  {name}: " + ", ".join(f"{n} {label}" for label, n in counts.items()))
    for pair in found["pairs"]:
        out.append(f"Cohen's kappa {pair['a']} - {pair['b']}: {_text(pair, 'kappa')}")
    fleiss_entry, alpha_entry = found["fleiss"], found["krippendorff"]
    if not fleiss_entry:
        return [*out, "one annotator only: no agreement to measure"]
    left = fleiss_entry["labelled_by_some_only"]
    out.append(
        f"Fleiss' kappa of {fleiss_entry['annotators']} annotators: {_text(fleiss_entry, 'kappa')}"
        + (f"; {left} images that only some of them labelled are left out" if left else "")
    )
    text = _text(alpha_entry, "alpha")
    return [*out, f"Krippendorff's alpha of {alpha_entry['annotators']} annotators: {text}"]


def _text(entry: dict[str, Any], name: str) -> str:
    if entry[name] is None:
        why = "everybody used one label only" if entry["n"] else "no image in common"
        return f"not defined, {why} (n = {entry['n']})"
    return (
        f"{entry[name]:.3f} (95 % interval {entry['low']:.3f} to {entry['high']:.3f}, "
        f"n = {entry['n']})"
    )
