"""What each figure reads: the files of a block of the configuration, by role.

Pure string work, as in `layout`. The files of a pool's shards stand as a pattern with their number,
which keeps the plan of a large pool small.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from clipshift.core.brace_ranges import numbered, sharded
from clipshift.study.config.causes import Subset, asked, evaluations
from clipshift.study.config.data import Block
from clipshift.study.config.figures import (
    Binned,
    Curve,
    Density,
    Encoders,
    Examples,
    Gap,
    OfSplits,
    Overlap,
    PerClass,
    PrunedTable,
    Ruler,
    Tolerance,
)
from clipshift.study.config.folders import Outside
from clipshift.study.config.robustness import OwnRobustness
from clipshift.study.config.splits import Split
from clipshift.study.layout.domain_figures import DOMAIN_FILES, domain_study
from clipshift.study.layout.evaluation import Evaluations
from clipshift.study.layout.outputs import TABLES
from clipshift.study.layout.study import Layout

Files = dict[str, Any]
# A table of predictions; the logits and their record lie beside it.
LOGITS = "results/logits/"


def figure_files(at: Layout, kind: str, name: str) -> Files:
    """The files that a figure reads, by role."""
    return FILES[kind](at, getattr(at.cfg.figures, kind)[name])


def figure_inputs(at: Layout, kind: str, name: str) -> list[str]:
    """The same, as a flat list without repetition."""
    return table_inputs(figure_files(at, kind, name))


def table_inputs(files: Any) -> list[str]:
    """The files of a table, as a flat list without repetition."""
    return list(dict.fromkeys(leaves(files)))


class Study(Block):
    """What a figure has to know of the study beyond its own block; empty where it need not."""

    reference: str = Field(description="The reference set.")
    subsets: dict[str, Subset] = Field(default={}, description="Test sets of fewer classes.")
    recipes: dict[str, Split] = Field(default={}, description="Recipes of pruned splits.")
    mixes: dict[str, list[int]] = Field(
        default={}, description="Of splits by domain: natural, rendition and random points."
    )
    classifiers: dict[str, dict[str, str]] = Field(
        default={}, description="Kind, form and encoder of domain classifiers."
    )


def figure_study(at: Layout, kind: str, name: str) -> Study:
    block = getattr(at.cfg.figures, kind)[name]
    parts = domain_study(at, block)
    if isinstance(block, OwnRobustness):
        parts["subsets"] = at.cfg.causes.subsets
    if isinstance(block, Tolerance):
        parts["recipes"] = {split: at.cfg.splits[split] for split in block.splits}
    return Study(reference=at.reference, **parts)


def leaves(value: Any) -> Iterator[str]:
    """Every path in the files of a figure, those of patterns spelled out."""
    if isinstance(value, str):
        yield value
        if value.startswith(LOGITS):  # and what lies beside it
            yield from (str(Path(value).with_suffix(suffix)) for suffix in (".json", ".npy"))
    elif isinstance(value, dict) and "pattern" in value:
        yield from sharded(value)
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)


def _pictures(at: Layout, dataset: str) -> Files:
    """Sample tables and tars of a data set."""
    if dataset in at.cfg.pools:
        shards = at.shards(dataset)
        tars = [at.tars(dataset, shard) for shard in shards]
        return {
            "tables": numbered([at.table(dataset, shard) for shard in shards]),
            "tars": tars if isinstance(at.cfg.pools[dataset], Outside) else numbered(tars),
        }
    return {"tables": [at.table(dataset)], "tars": [at.tars(dataset)]}


def _neighbours(at: Layout, block: Any, encoder: str | None = None) -> Files:
    return {s: {b: at.neighbours(b, s, encoder) for b in block.bases} for s in block.sets}


def _training(at: Layout, split: str, sets: list[str]) -> Files:
    """Per test set, the neighbours files that make up a split's training data."""
    recipe = at.cfg.splits[split]
    bases = [split] * recipe.keeps_pool + [at.reference] * bool(recipe.reference)
    return {s: [at.neighbours(base, s) for base in bases] for s in sets}


def _evaluations(at: Layout, splits: list[str], sets: list[str]) -> Files:
    """Per split its account, and per test set the predictions of its runs."""
    return {
        split: {"account": f"results/splits/{split}.json", "sets": rows}
        for split, rows in _predictions(at, splits, sets).items()
    }


def _predictions(at: Layout, splits: list[str], sets: list[str]) -> Files:
    """Per split and test set the predictions of the split's runs."""
    ev = Evaluations(at)
    return {split: {s: ev.set_rows(s, at.runs(split)) for s in sets} for split in splits}


def contrast_files(at: Layout) -> Files:
    """Per split and test set of the contrasts, the predictions of the split's runs."""
    files: Files = {}
    for a, b, name in at.cfg.figures.contrasts:
        for split in (a, b):
            files.setdefault(split, {}).update(_predictions(at, [split], [name])[split])
    return files


def _pictured(at: Layout, block: Examples | Ruler) -> Files:
    bases = {at.reference if b == at.reference else at.pool for b in block.bases}
    return {
        "neighbours": _neighbours(at, block),
        "tests": {s: _pictures(at, s) for s in block.sets},
        "bases": {b: _pictures(at, b) for b in sorted(bases)},
    }


def _binned(at: Layout, block: Binned) -> Files:
    return {
        "neighbours": _training(at, block.split, block.sets),
        "predictions": _predictions(at, [block.split], block.sets)[block.split],
    }


def _curve(at: Layout, block: Curve) -> Files:
    return {"evaluations": _evaluations(at, block.splits, block.sets)}


def _gap(at: Layout, block: Gap) -> Files:
    return {"neighbours": _neighbours(at, block)}


def _density(at: Layout, block: Density) -> Files:
    return {"density": {s: {b: at.density(b, s) for b in block.bases} for s in block.sets}}


def _pruned(at: Layout, block: PrunedTable) -> Files:
    return {
        "evaluations": _evaluations(at, block.splits, block.sets),
        "accounts": {split: f"results/splits/{split}.json" for split in block.splits},
    }


def _per_class(at: Layout, block: PerClass) -> Files:
    return {
        "predictions": _predictions(at, block.splits, block.sets),
        "neighbours": {split: _training(at, split, block.sets) for split in block.splits},
    }


def _seeds(at: Layout, block: OfSplits) -> Files:
    return {"predictions": _predictions(at, block.splits, block.sets)}


def _removable(at: Layout, sets: list[str], encoder: str | None = None) -> Files:
    return {s: numbered(at.margins(s, encoder=encoder)) for s in sets}


def _tolerance(at: Layout, block: Tolerance) -> Files:
    return {
        "candidates": numbered(at.embedded()),
        "margins": _removable(at, block.sets),
        "evaluations": _evaluations(at, block.splits, block.sets),
    }


def _encoders(at: Layout, block: Encoders) -> Files:
    return {"neighbours": {e: _neighbours(at, block, e) for e in block.encoders}}


def _overlap(at: Layout, block: Overlap) -> Files:
    return {
        "candidates": numbered(at.embedded()),
        "margins": {e: _removable(at, block.sets, e) for e in block.encoders},
    }


def _own_robustness(at: Layout, block: OwnRobustness) -> Files:
    """Per arm (`split`, `split-model` or `split-model-head`), measured set and run its predictions.

    A set of fewer classes is a view of the whole one's.
    """
    ev = Evaluations(at)
    controlled = dict(asked(at.cfg.causes))
    subsets = at.cfg.causes.subsets
    runs: Files = {}
    for arm in block.arms:
        split, _, model = arm.partition("-")
        own = evaluations(arm, controlled[arm]) if arm in controlled else None
        names = own or at.runs(split, model or None)
        runs[arm] = {
            name: ev.set_rows(subsets[name].of if name in subsets else name, names)
            for name in [*block.id, *block.shifts]
        }
    return {"runs": runs}


FILES: dict[str, Callable[[Layout, Any], Files]] = {
    "neighbours": _pictured,
    "ruler": _pictured,
    "accuracy_vs_similarity": _binned,
    "accuracy_vs_pruned": _curve,
    "similarity_gap": _gap,
    "density": _density,
    "pruned": _pruned,
    "per_class": _per_class,
    "seeds": _seeds,
    "tolerance": _tolerance,
    "encoders": _encoders,
    "overlap": _overlap,
    "effective_robustness": _own_robustness,
    **DOMAIN_FILES,
}

# Kinds whose outputs are a figure and one table; the others have a rule of their own.
FIGURE_KINDS = [kind for kind in FILES if kind not in (*TABLES, "accuracy_vs_similarity")]
