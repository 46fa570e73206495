"""Targets of a command line: a misspelt one is answered with the nearest that the study makes."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from clipshift.study.layout.evaluation import Evaluations

_WILDCARD = re.compile(r"\{(\w+)\}")
# Names that a message lists where none is near.
SHOWN = 10
# What a message calls a wildcard's names, where that is another word.
WORDS = {
    "testset": "test set",
    "dataset": "data set",
    "base": "split or data set",
    "reshard": "block of reshard",
    "piece": "encoder/data set/shard",
}


class Product(NamedTuple):
    """A file of a rule: its pattern with bare wildcards, and the regular expression of each."""

    pattern: str
    constraints: Mapping[str, str]

    def match(self, path: str, free: Collection[str] = ()) -> dict[str, str] | None:
        """The wildcards of a path, those in `free` of any value; None: it is no such file."""
        parts = _WILDCARD.split(self.pattern)
        if not (path.startswith(parts[0]) and path.endswith(parts[-1])):
            return None  # most are not: their patterns, some of hundreds of names, are not compiled
        seen: set[str] = set()
        regex = re.escape(parts[0])
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            anything = ".+?" if name == "piece" else "[^/]+?"
            value = anything if name in free else self.constraints.get(name, ".+")
            regex += f"(?P={name})" if name in seen else f"(?P<{name}>{value})"
            regex += re.escape(text)
            seen.add(name)
        found = re.fullmatch(regex, path)
        return found.groupdict() if found else None

    def filled(self, wildcards: Mapping[str, str]) -> str:
        return _WILDCARD.sub(lambda m: wildcards[m[1]], self.pattern)

    @property
    def wildcards(self) -> list[str]:
        return list(dict.fromkeys(_WILDCARD.findall(self.pattern)))


class Names:
    """What each wildcard of the rules can be in a study."""

    def __init__(self, ev: Evaluations):
        self.at, self.cfg = ev.at, ev.cfg
        cfg, datasets = ev.cfg, [*ev.cfg.pools, *ev.cfg.sets]
        domains = cfg.domains
        self.named: dict[str, list[str]] = {
            "package": [*cfg.packages],
            "source": [*cfg.sources],
            "pool": [*cfg.pools],
            "testset": [*cfg.sets],
            "dataset": datasets,
            "encoder": [*cfg.encoders],
            "split": [*cfg.splits],
            "model": [*dict.fromkeys([*cfg.models, *cfg.causes.models])],
            "corpus": [*cfg.causes.corpora],
            "reshard": [*cfg.reshard],
            "base": [*dict.fromkeys([*cfg.splits, *datasets])],
            "figure": [*dict.fromkeys(name for _, name, _ in cfg.figures.blocks())],
            "classifier": [*domains.classifiers] if domains else [],
            "clean": [*domains.clean] if domains else [],
        }
        self._examples = {
            "evaluation": [*ev.every(), *ev.by_epoch()],
            "name": [*ev.conditions(), *ev.every(), *ev.by_epoch()],
            "kind": [*dict.fromkeys(kind for kind, _, _ in cfg.figures.blocks())],
            "seed": [*dict.fromkeys(str(s) for split in cfg.splits for s in cfg.seeds_of(split))],
        }

    def known(self, wildcard: str, others: Mapping[str, str]) -> Collection[str] | None:
        """The values of a wildcard beside others; None: whatever its rule takes."""
        if wildcard == "shard" and "reshard" in others:
            return self.at.shards(self.cfg.pool)
        if wildcard == "shard":
            dataset = others.get("dataset") or others.get("pool") or others.get("testset")
            return self.at.shards(dataset) if dataset in self.named["dataset"] else None
        if wildcard == "group":
            return [f"{group:05d}" for group in range(self.cfg.dedup.jobs)]
        if wildcard == "piece":
            return [
                f"{encoder}/{dataset}/{shard}"
                for encoder in self.named["encoder"]
                for dataset in self.named["dataset"]
                for shard in self.at.shards(dataset)
            ]
        if wildcard == "figure" and "kind" in others:
            named = [n for kind, n, _ in self.cfg.figures.blocks() if kind == others["kind"]]
            return named or self.named["figure"]
        return self.named.get(wildcard)

    def examples(self, product: Product, wildcard: str, others: Mapping[str, str]) -> list[str]:
        """Values that a rule takes, to choose the nearest among."""
        values = self.known(wildcard, others) or self._examples.get(wildcard)
        constraint = product.constraints.get(wildcard, ".+")
        if values is None:
            values = [value for value in constraint.split("|") if value != "NONE"]
        return [value for value in values if re.fullmatch(constraint, value)]

    def word(self, wildcard: str, near: str = "") -> str:
        """What a wildcard's names are called."""
        if wildcard == "name":
            return "split" if near in self.cfg.splits or not near else "evaluation"
        return WORDS.get(wildcard, wildcard)


def faults(
    targets: Iterable[str], products: Sequence[Product], names: Names, rules: Collection[str] = ()
) -> list[str]:  # fmt: skip
    """A sentence for each target that is a file of none of the rules, or of a name there is not.

    Args:
        rules: their names, which a target without a folder may have been meant for.
    """
    found = []
    for target in targets:
        if (text := _fault(target, products, names)) is not None:
            near = [] if "/" in target else get_close_matches(target, rules, n=1, cutoff=0.6)
            found.append(f"no rule {target!r}; did you mean {near[0]!r}?" if near else text)
    return found


def _fault(target: str, products: Sequence[Product], names: Names) -> str | None:
    wrong: list[tuple[float, str]] = []
    for product in products:
        if (found := product.match(target)) is not None:
            blamed = _blamed(found, product, names)
            if not blamed:
                return None
            wrong.append(_told(product, found, blamed, names))
    if not wrong and not Path(target).exists():
        wrong = list(_nearly(target, products, names))
    elif not wrong:
        return None  # a file of the user's
    told = max(wrong, default=(0.0, ""), key=lambda item: item[0])[1]
    return f"{target}: {told or _nearest(target, products, names)}"


def _blamed(found: Mapping[str, str], product: Product, names: Names) -> list[str]:
    """Wildcards whose value is none that there is."""
    known = {w: names.known(w, found) for w in found}
    return [w for w, values in known.items() if values is not None and found[w] not in values]


def _nearly(
    target: str, products: Sequence[Product], names: Names
) -> Iterator[tuple[float, str]]:  # fmt: skip
    """Files that it would be if as few wildcards as possible had another value."""
    for count in range(1, 5):
        found = []
        for product in products:
            for free in combinations(product.wildcards, count):
                if (match := product.match(target, free)) is not None:
                    blamed = [*dict.fromkeys([*free, *_blamed(match, product, names)])]
                    found.append(_told(product, match, blamed, names))
        if found:
            yield from found
            return


def _told(
    product: Product, found: Mapping[str, str], blamed: Sequence[str], names: Names
) -> tuple[float, str]:  # fmt: skip
    """How near a file is that the study makes, and what is wrong with the given one."""
    sentences, total, right = [], 0.0, dict(found)
    for wildcard in blamed:
        value, values = found[wildcard], names.examples(product, wildcard, right)
        numbers = value.isdigit() and len(values) > 1
        near = [] if numbers else get_close_matches(value, values, n=1, cutoff=0.6)
        sentence = f"no {names.word(wildcard, ''.join(near))} {value!r}"
        if near:
            right[wildcard] = near[0]
            total += SequenceMatcher(None, value, near[0]).ratio()
            sentence += f"; did you mean {near[0]!r}?"
        elif numbers:
            sentence += f"; they are {values[0]} to {values[-1]}"
        elif values:
            more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
            sentence += f"; there is {', '.join(values[:SHOWN])}{more}"
        else:
            total -= 1  # a rule of which this study makes nothing
        sentences.append(sentence)
    return total / max(len(blamed), 1), ". ".join(sentences)


def _nearest(target: str, products: Sequence[Product], names: Names) -> str:
    """The file of any rule that is spelt most like it."""
    tokens = list(dict.fromkeys([*re.split(r"[/.]", target), *re.split(r"[/.-]", target)]))
    paths = []
    for product in products:
        wildcards: dict[str, str] = {}
        for wildcard in product.wildcards:
            values = names.examples(product, wildcard, wildcards)
            if not values:
                break
            unused = [value for value in values if value not in wildcards.values()]
            wildcards[wildcard] = max(unused or values, key=lambda v: _likeness(v, target, tokens))
        else:
            paths.append(product.filled(wildcards))
    near = get_close_matches(target, [p for p in paths if "/NONE/" not in p], n=1, cutoff=0.5)
    return "nothing makes it" + (f"; did you mean {near[0]}?" if near else "")


def _likeness(value: str, target: str, tokens: Sequence[str]) -> tuple[int, float]:
    ratios = [SequenceMatcher(None, value, token).ratio() for token in tokens]
    return len(value) if value in target else 0, max(ratios)
