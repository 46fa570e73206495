"""What each figure and table of study B reads; see `layout.figures`."""

from collections.abc import Callable
from typing import Any

from clipshift.core.brace_ranges import numbered
from clipshift.study.config.domain_figures import (
    CleanTable,
    CompositionTable,
    DetectorTable,
    DomainCurves,
    DomainSamples,
    OfClean,
)
from clipshift.study.layout.domains import DomainLayout
from clipshift.study.layout.evaluation import Evaluations
from clipshift.study.layout.study import Layout

Files = dict[str, Any]


def _arms(block: OfClean) -> list[str]:
    splits: list[str] = getattr(block, "arms", block.splits)
    return splits


def _accuracies(at: Layout, block: OfClean) -> Files:
    """Clean sets, and per split and clean set the predictions of the split's runs on the whole."""
    dom, ev = DomainLayout(at), Evaluations(at)
    return {
        "clean": {c: dom.clean(c) for c in block.clean},
        "predictions": {
            split: {c: ev.set_rows(dom.clean_sets[c].set, at.runs(split)) for c in block.clean}
            for split in _arms(block)
        },
    }


def _curves(at: Layout, block: DomainCurves) -> Files:
    """The labels of a test set; else, of what each classifier was fitted on, the parts."""
    dom = DomainLayout(at)
    tested = block.set in dom.measured
    datasets = [block.set] if tested else dom.labelled
    every = block.classifiers
    return {
        "points": {c: dom.point(c) for c in every},
        "labels": [dom.labels(block.set)] * tested,
        "parts": {} if tested else {c: dom.parts(c) for c in every},
        "scores": {c: [numbered(dom.scores(c, d)) for d in datasets] for c in every},
    }


def _detectors(at: Layout, block: DetectorTable) -> Files:
    dom = DomainLayout(at)
    return {
        "points": {c: dom.point(c) for c in block.classifiers},
        "labels": {d: dom.labels(d) for d in dom.measured},
        "scores": {
            c: {d: numbered(dom.scores(c, d)) for d in dom.measured} for c in block.classifiers
        },
    }


def _samples(at: Layout, block: DomainSamples) -> Files:
    dom = DomainLayout(at)
    return {
        "points": {d: dom.point(c) for d, c in dom.detectors.items()},
        "datasets": {
            d: {
                "verdicts": dom.verdicts(d),
                "tables": dom.tables(d),
                "tars": dom.dataset_tars(d),
            }
            for d in block.datasets
        },
    }


def _composition(at: Layout, block: CompositionTable) -> Files:
    return {"composition": f"{DomainLayout(at).home}/composition.json"}


def _clean(at: Layout, block: CleanTable) -> Files:
    dom = DomainLayout(at)
    return {"clean": {c: dom.clean(c).replace(".parquet", ".json") for c in block.clean}}


DOMAIN_FILES: dict[str, Callable[[Layout, Any], Files]] = {
    "domain_bars": _accuracies,
    "domain_relative": _accuracies,
    "domain_mixes": _accuracies,
    "domain_sizes": _accuracies,
    "domain_robustness": _accuracies,
    "domain_curves": _curves,
    "domain_samples": _samples,
    "domain_detectors": _detectors,
    "domain_composition": _composition,
    "domain_clean": _clean,
}


def domain_study(at: Layout, block: Any) -> dict[str, Any]:
    """What a figure of study B has to know beyond its block: what its splits are made of."""
    if isinstance(block, DetectorTable | DomainCurves) and at.cfg.domains:
        every = at.cfg.domains.classifiers
        return {
            "classifiers": {
                c: {key: getattr(every[c], key) for key in ("kind", "form", "encoder")}
                for c in block.classifiers
            }
        }
    if not isinstance(block, OfClean):
        return {}
    counts = {split: at.cfg.splits[split].domain_counts for split in _arms(block)}
    return {"mixes": {split: list(own) for split, own in counts.items() if own is not None}}
