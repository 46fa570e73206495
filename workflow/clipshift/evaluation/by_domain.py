"""Mean accuracies over the sets of a domain, with intervals over images and training.

All splits are compared on the same images, matched by key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet
from clipshift.evaluation.views import Predictions, read, view
from clipshift.stats.intervals import SeedVariance
from clipshift.study.config.domains import Variant

# Counts of drawn images that are held at the same time (32 MB).
DRAWN = 4_000_000


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
    """(A, draws) means over the sets of a domain, conditions in their order.

    A draw has images drawn with replacement, the same for all conditions, and a deviation of
    training for each condition, whose variance is pooled over the conditions: to draw a few seeds
    with replacement instead would make the intervals too narrow. Draws of two domains with the
    same seed share the deviations. Where no condition has two seeds there is none.
    """
    rng = np.random.default_rng(seed)
    ordered = list(conditions.values())
    names = ordered[0].sets(domain)
    training = SeedVariance.pooled([[c.correct[name] for name in names] for c in ordered])
    seeds = np.array([c.seeds for c in ordered])
    deviation = rng.standard_normal((len(ordered), draws))
    total = deviation * np.sqrt(training.draw(rng, draws) / seeds[:, None])  # (A, draws)
    for name in names:
        correct = np.stack([c.correct[name].mean(0, dtype=float) for c in ordered], 1)  # (N, A)
        n = len(correct)
        step = max(1, DRAWN // n)
        # All conditions at once, so that a draw gives them the same images.
        parts = [
            rng.multinomial(n, np.full(n, 1 / n), size=min(step, draws - start)) @ correct / n
            for start in range(0, draws, step)
        ]
        total += np.concatenate(parts).T / len(names)
    drawn: np.ndarray = total.clip(0, 1)
    return drawn


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
