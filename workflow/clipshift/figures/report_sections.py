"""The figures and tables of the report: their sections, captions and numbers."""

import csv
from pathlib import Path
from typing import Any

from clipshift.figures.published import MARK, MARK_DOMAINS
from clipshift.study.layout.outputs import figure_outputs, figure_path

# Rows of numbers that the page shows below a figure; more are in the file only.
MOST_ROWS = 120

PUBLISHED_NOTE = (
    f"Points and cells marked {MARK} were measured on another pool, encoder and model; they show "
    "the shape to compare with, not a target."
)

DOMAINS_NOTE = (
    f" Numbers marked {MARK_DOMAINS} were measured on LAION and benchmarks of photographs; they "
    "show the shape to compare with, not a target."
)
CLEAN_NOTE = (
    " Sets are cleaned of what is not of their domain; fewer class names are easier, so nothing "
    "compares across variants. Intervals (95 %) are bootstrapped over images and seeds."
)

# Kind -> section and caption.
CAPTIONS = {
    "pruned": (
        "accuracy",
        "Pool points removed, and zero-shot top-1 accuracy, %, mean over the seeds, with its 95 % "
        "Clopper-Pearson interval over the test images. " + PUBLISHED_NOTE,
    ),
    "accuracy_vs_pruned": (
        "accuracy",
        "Accuracy against the pool points pruned. Bars: 95 % Clopper-Pearson interval of the mean "
        "over seeds; small dots: single seeds. " + PUBLISHED_NOTE,
    ),
    "accuracy_vs_similarity": (
        "accuracy",
        "Accuracy of the test images in bins of their nearest-neighbour similarity to the training "
        "data, with Clopper-Pearson intervals and n per bin; Spearman's rho over the bins and over "
        "the images with bootstrap intervals. " + PUBLISHED_NOTE,
    ),
    "effective_robustness": (
        "accuracy",
        "Effective robustness: accuracy under shift above what the line of the baseline runs says "
        "at the same accuracy in distribution, in percentage points; both axes are scaled so that "
        "the line is straight. Bars: 95 % Clopper-Pearson intervals over the test images; band: "
        "bootstrap over the baseline runs. A line of few runs is a weak one.",
    ),
    "per_class": (
        "accuracy",
        "Accuracy per class with its 95 % Clopper-Pearson interval; classes in the order of the "
        "mean nearest-neighbour similarity of their images to the training data.",
    ),
    "seeds": (
        "accuracy",
        "Trainings that differ in nothing but their seed: single seeds, mean and Student's t "
        "interval over the seeds; behind them the Clopper-Pearson interval over the images. The t "
        "interval of very few seeds is wide, and cut at 0 and 100 %.",
    ),
    "neighbours": (
        "similarity",
        "Example test pictures, spread over the similarities, with their nearest neighbours.",
    ),
    "ruler": (
        "similarity",
        "The similarity ruler: pairs of a test picture and one of its neighbours.",
    ),
    "similarity_gap": (
        "similarity",
        "Nearest-neighbour similarity of each test set to each base; vertical lines: medians.",
    ),
    "density": (
        "similarity",
        "Number of points of each base above a similarity: median over the test images, and the "
        "band between two quantiles.",
    ),
    "tolerance": (
        "similarity",
        "Points that pruning would remove at each tolerance, counted from the margins, and the "
        "accuracy of the splits that were trained.",
    ),
    "encoders": (
        "similarity",
        "Nearest-neighbour similarity of each test image by two encoders, with Spearman's rho and "
        "its bootstrap interval; below, both distributions.",
    ),
    "overlap": (
        "similarity",
        "Points that pruning would remove by two encoders; J: the Jaccard index of both sets.",
    ),
    "domain_bars": (
        "domains",
        "Mean accuracy on natural and on rendition sets." + CLEAN_NOTE + DOMAINS_NOTE,
    ),
    "domain_relative": (
        "domains",
        "Mean accuracy relative to that of a baseline of the same size, after the correction that "
        "the axis names." + CLEAN_NOTE + DOMAINS_NOTE,
    ),
    "domain_mixes": (
        "domains",
        "Natural against rendition accuracy; at every point the natural points and renditions of "
        "the training set." + CLEAN_NOTE + DOMAINS_NOTE,
    ),
    "domain_sizes": (
        "domains",
        "Accuracy of mixes against the size of the training set." + CLEAN_NOTE,
    ),
    "domain_robustness": (
        "domains",
        "Accuracy on each rendition set against the mean on the natural sets; no line of ImageNet "
        "models, which holds for ImageNet and its shifted sets only.",
    ),
    "domain_curves": (
        "domains",
        "Precision-recall curves of the domain classifiers. Thresholds are the lowest with the "
        "wanted precision on the validation part; marks show what they reach here.",
    ),
    "domain_samples": (
        "domains",
        "Pictures of each verdict of the two detectors, at random and in equal steps from the most "
        "to the least confident.",
    ),
    "domain_detectors": (
        "domains",
        "Precision and recall of every domain classifier on every labelled set, with 95 % "
        "Clopper-Pearson intervals.",
    ),
    "domain_composition": (
        "domains",
        "Verdicts counted, and shares corrected for the detectors' errors on the labelled test "
        "part (inversion of the confusion matrix; 95 % intervals). The correction supposes that "
        "the detectors err in each data set as in that part." + DOMAINS_NOTE,
    ),
    "domain_clean": (
        "domains",
        "Clean test sets: sizes, classes left, what was dropped and why." + DOMAINS_NOTE,
    ),
}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def shown(drawn: list[tuple[str, str]], results: Path) -> dict[str, list[dict[str, Any]]]:
    """What the page shows of each figure, by section, in the order of the captions."""
    order = list(CAPTIONS)
    found: dict[str, list[dict[str, Any]]] = {section: [] for section, _ in CAPTIONS.values()}
    for kind, name in sorted(drawn, key=lambda figure: order.index(figure[0])):
        section, caption = CAPTIONS[kind]
        outputs = figure_outputs(kind, name)
        picture = figure_path(kind, name)
        tables = {f: read_table(_file(f, results)) for f in outputs if f.endswith(".csv")}
        found[section].append(
            {
                "kind": kind,
                "name": name,
                "caption": caption,
                "picture": _file(picture, results) if picture in outputs else None,
                "path": outputs[0],
                "tables": tables,
                "most_rows": MOST_ROWS,
            }
        )
    return found


def _file(path: str, results: Path) -> Path:
    return results / Path(path).relative_to("results")


def pruned_matrix(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    """One entry per split: its first row, and its rows by test set."""
    splits: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = splits.setdefault(row["split"], {"first": row, "cells": {}})
        entry["cells"][row["test_set"]] = row
    return list(splits.values())
