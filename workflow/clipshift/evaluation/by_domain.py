"""Mean accuracies over the sets of a domain, with bootstrap intervals over images and seeds.

All splits are compared on the same images, matched by key; in a draw they share the images and
each draws its own seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.evaluation.views import Predictions, read, view
from clipshift.stats.intervals import DRAWN
from clipshift.study.config.domains import Variant


@dataclass(frozen=True)
class Condition:
    """A split on some clean sets.

    Attributes:
        correct: clean set -> (S, N) bool, images in the order of keys.
        chance: clean set -> chance level of its class names.
        domains: clean set -> its domain.
    """

    correct: Mapping[str, np.ndarray]
    chance: Mapping[str, float]
    domains: Mapping[str, str]

    @property
    def seeds(self) -> int:
        return len(next(iter(self.correct.values())))

    def sets(self, domain: str) -> list[str]:
        return [name for name, set_domain in self.domains.items() if set_domain == domain]

    def mean(self, domain: str) -> float:
        """Mean over the sets of a domain of the mean accuracy over seeds."""
        return float(np.mean([self.correct[name].mean() for name in self.sets(domain)]))


def read_conditions(
    predictions: Mapping[str, Mapping[str, Sequence[str]]], cleaned: Mapping[str, str],
    variant: Variant,
) -> dict[str, Condition]:  # fmt: skip
    """Conditions by split: queries over what their runs said of the whole sets.

    Args:
        predictions: split -> clean set -> the tables of the runs on the whole set.
        cleaned: clean set -> its list.

    Raises:
        ClipshiftError: two of them speak of different images.
    """
    kept = {name: _kept(Path(file)) for name, file in cleaned.items()}
    domains = {
        name: read_json(Path(f).with_suffix(".json"))["domain"] for name, f in cleaned.items()
    }
    conditions: dict[str, Condition] = {}
    first: dict[str, tuple[list[str], str]] = {}
    for split, sets in predictions.items():
        correct, chance = {}, {}
        for name, paths in sets.items():
            rows = []
            for path in paths:
                predicted = clean_view(Path(path), kept[name], variant)
                keys, first_path = first.setdefault(name, (predicted.keys.tolist(), path))
                if predicted.keys.tolist() != keys:
                    raise ClipshiftError(f"{path}: other images of {name} than in {first_path}")
                rows.append(predicted.correct)
                chance[name] = 1 / len(predicted.classes)
            correct[name] = np.stack(rows)
        conditions[split] = Condition(correct, chance, domains)
    return conditions


def clean_view(rows: Path, kept: set[str], variant: Variant) -> Predictions:
    """A variant of a clean set: which images of the whole set, and which class names.

    Raises:
        ClipshiftError: the clean set keeps an image that the set does not hold.
    """
    whole = read(rows)
    if missing := sorted(kept - set(whole.keys.tolist())):
        raise ClipshiftError(f"the clean set keeps {missing[0]!r}, which {rows} does not hold")
    left = np.unique(whole.label[np.isin(whole.keys, list(kept))])
    names, images = range(len(whole.classes)), None if variant.startswith("original") else kept
    return view(rows, images, left if variant.endswith("restricted") else names)


def _kept(file: Path) -> set[str]:
    table = read_parquet(file, ["key", "kept"])
    return set(table.filter(table["kept"])["key"].to_pylist())


def draw_means(
    conditions: Mapping[str, Condition], domain: str, draws: int, seed: int
) -> np.ndarray:
    """(A, draws) bootstrap means over the sets of a domain, conditions in their order."""
    rng = np.random.default_rng(seed)
    ordered = list(conditions.values())
    # (draws, S) each, drawn once: in a draw the sets of a domain share their seeds.
    seeds = [rng.integers(0, c.seeds, size=(draws, c.seeds)) for c in ordered]
    names = ordered[0].sets(domain)
    total = np.zeros((len(ordered), draws))  # (A, draws)
    for name in names:
        stacked = np.concatenate([c.correct[name] for c in ordered]).astype(float).T  # (N, S)
        n = len(stacked)
        step = max(1, DRAWN // n)
        # All conditions at once, so that a draw gives them the same images.
        parts = [
            rng.multinomial(n, np.full(n, 1 / n), size=min(step, draws - start)) @ stacked / n
            for start in range(0, draws, step)
        ]
        ends = np.cumsum([c.seeds for c in ordered])[:-1]
        sides = np.split(np.concatenate(parts), ends, axis=1)  # (draws, S) each
        for place, (side, chosen) in enumerate(zip(sides, seeds, strict=True)):
            total[place] += np.take_along_axis(side, chosen, axis=1).mean(1)
    return total / len(names)


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def share_name(mix: Sequence[int] | None) -> str:
    """What a split is made of, for a label: natural to rendition, or random.

    >>> share_name([300, 100, 0]), share_name([0, 0, 400]), share_name(None)
    ('300 : 100', 'random 400', 'random')
    """
    if mix is None:
        return "random"
    natural, rendition, random = mix
    return f"random {short(random)}" if random else f"{short(natural)} : {short(rendition)}"


def short(count: int) -> str:
    """A number of points in few letters.

    >>> short(250), short(15_750_000)
    ('250', '15.75M')
    """
    return f"{count / 1e6:g}M" if count >= 100_000 else str(count)
