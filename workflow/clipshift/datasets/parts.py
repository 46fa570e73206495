"""Parts of a data set: a range of every class in a seeded order, without some patterns of keys.

Ranges that do not overlap share no sample, and every class is divided alike: a class of n samples
gives a part [low, high] those of the ranks from round(low * n) to round(high * n).
"""

from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

from clipshift.datasets.formats.base import Dataset, Unit
from clipshift.datasets.records import Record
from clipshift.datasets.select import seeded_order
from clipshift.study.config.folders import Readable

SEED = 0  # of the order, which all parts of a data set share


class Part:
    """Which samples of a data set a block reads.

    Reads all records where the block names a range; holds their keys.

    Attributes:
        sizes: label -> (samples in the part, samples of the class); empty without a range.
    """

    def __init__(self, spec: Readable, dataset: Dataset, units: Sequence[Unit]):
        self._exclude = spec.exclude
        self._keys: set[str] | None = None
        self.sizes: dict[str, tuple[int, int]] = {}
        if spec.part is None:
            return
        keys: dict[str, list[str]] = defaultdict(list)
        for unit in units:
            for record in dataset.records(unit):
                if isinstance(record, Record) and not self._excluded(record.key):
                    keys[record.label or ""].append(record.key)
        chosen: set[str] = set()
        for label, members in sorted(keys.items()):
            low, high = (round(edge * len(members)) for edge in spec.part)
            ordered = sorted(members, key=lambda key: (seeded_order(SEED, key), key))
            chosen.update(ordered[low:high])
            self.sizes[label] = (high - low, len(members))
        self._keys = chosen

    def _excluded(self, key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in self._exclude)

    def refused(self, record: Record) -> str | None:
        """Why a sample is not read; None: it is."""
        if self._excluded(record.key):
            return "excluded"
        if self._keys is not None and record.key not in self._keys:
            return "in another part"
        return None

    def __str__(self) -> str:
        return ", ".join(f"{label} {size} of {of}" for label, (size, of) in self.sizes.items())
