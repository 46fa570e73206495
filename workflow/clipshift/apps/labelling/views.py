"""What the page shows and does: grids of images with labels, progress, disagreements."""

import io
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from PIL import Image

from clipshift.apps.labelling import agreement
from clipshift.apps.labelling.catalogue import Catalogue, Unreadable
from clipshift.apps.labelling.store import Store
from clipshift.apps.labelling.table import ADJUDICATED, CONSENSUS, LABELS, decide
from clipshift.datasets.images import WHITE, Colour, Undecodable, decode

SIZE = 25  # images of a page, 5 x 5
SIDES = {"small": 224, "large": 900}  # pixels of the longer side
QUALITY = 88
CACHED = 512  # images
GRID, DISAGREEMENTS = "label", "disagreements"


def place(at: int) -> dict[str, int]:
    """Page and place on it of an image's position."""
    return {"page": at // SIZE, "at": at % SIZE}


class Previews:
    """Images made small, as JPEG: no byte of a file reaches the browser undecoded.

    Attributes:
        broken: {key: why} of the images that were asked for and could not be shown.
    """

    def __init__(self, catalogue: Catalogue, background: Colour = WHITE) -> None:
        self._background = background
        self.broken: dict[str, str] = {}
        self._catalogue = catalogue
        self._cache: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = Lock()

    def prepare(self, keys: Sequence[str]) -> None:
        """Look up what `jpeg` will be asked for."""
        with self._lock:
            missing = [key for key in keys if (key, "small") not in self._cache]
        if missing:
            self._catalogue.prefetch(missing)

    def jpeg(self, key: str, side: str = "small") -> bytes | None:
        """The image, or None where it cannot be shown (then `broken` says why) or is unknown."""
        with self._lock:
            if (key, side) in self._cache:
                self._cache.move_to_end((key, side))
                return self._cache[key, side]
        item = self._catalogue.item(key)
        if item is None:
            return None
        try:
            image = decode(self._catalogue.read(item), self._background)
        except (Unreadable, Undecodable) as reason:
            self.broken[key] = str(reason)
            return None
        image.thumbnail((SIDES[side], SIDES[side]), Image.Resampling.BICUBIC)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY)
        with self._lock:
            self.broken.pop(key, None)
            self._cache[key, side] = out.getvalue()
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return out.getvalue()


@dataclass
class Views:
    """The page's state, made of catalogue and store at each request: the store is the authority."""

    catalogue: Catalogue
    store: Store
    annotators: tuple[str, ...]
    background: Colour = WHITE
    images: Previews = field(init=False)
    keys: list[str] = field(init=False)  # in the page's order
    # Of the labels of some line of the journal: a page is asked for more often than they change.
    _disputed: tuple[int, list[str]] = (-1, [])

    def __post_init__(self) -> None:
        self.images = Previews(self.catalogue, self.background)
        self.keys = list(self.catalogue.position)

    def writer(self, view: str, annotator: str) -> str:
        """Whose labels a view shows and changes.

        Raises:
            KeyError: no such view or annotator.
        """
        if annotator not in self.annotators or view not in (GRID, DISAGREEMENTS):
            raise KeyError(view)
        return ADJUDICATED if view == DISAGREEMENTS else annotator

    def page(self, view: str, page: int, annotator: str) -> dict[str, Any]:
        """One page of a view; a page that is not there is the nearest one that is."""
        writer = self.writer(view, annotator)
        with self.store.locked():
            disputed = self.disputed()
            keys = disputed if view == DISAGREEMENTS else self.keys
            pages = max(1, -(-len(keys) // SIZE))
            page = min(max(page, 0), pages - 1)
            shown = keys[page * SIZE : (page + 1) * SIZE]
            items = [self._item(key, view, writer) for key in shown]
            progress = self._progress(keys, writer)
            settled = sum(self.store.label_of(key, ADJUDICATED) is not None for key in disputed)
        self.images.prepare([item["key"] for item in items])
        for item in items:
            self.images.jpeg(item["key"])
            item["broken"] = self.images.broken.get(item["key"])
        progress["undecodable"] = len(self.images.broken)
        return {
            "view": view, "page": page, "pages": pages, "items": items, "progress": progress,
            "disputed": len(disputed), "settled": settled,
        }  # fmt: skip

    def disputed(self) -> list[str]:
        """Keys of the pool with different labels, in the page's order."""
        if self._disputed[0] == self.store.changed:
            return self._disputed[1]
        first: dict[str, int] = {}
        found: set[str] = set()
        people = [n for n in self.store.annotators() if n not in (ADJUDICATED, CONSENSUS)]
        for name in people if len(people) > 1 else ():
            for key, entry in self.store.labels[name].items():
                if first.setdefault(key, entry.label) != entry.label:
                    found.add(key)
        position = self.catalogue.position
        here = sorted(filter(position.__contains__, found), key=position.__getitem__)
        self._disputed = self.store.changed, here
        return here

    def _item(self, key: str, view: str, writer: str) -> dict[str, Any]:
        item: dict[str, Any] = {"key": key, "label": self.store.label_of(key, writer)}
        if view == DISAGREEMENTS:
            item["given"] = [
                {"annotator": name or agreement.UNNAMED, "label": self.store.label_of(key, name)}
                for name in self.store.annotators()
                if name not in (ADJUDICATED, CONSENSUS)
                and self.store.label_of(key, name) is not None
            ]
        return item

    def _progress(self, keys: Sequence[str], writer: str) -> dict[str, Any]:
        given = self.store.labels[writer]
        here = self.catalogue.position if keys is self.keys else set(keys)
        labels = Counter(entry.label for key, entry in given.items() if key in here)
        counts = [labels[label] for label in range(len(LABELS))]
        broken = self.images.broken
        blank = (at for at, key in enumerate(keys) if key not in given and key not in broken)
        first = next(blank, None)
        return {
            "of": len(keys), "labelled": sum(counts), "counts": counts,
            "first_unlabelled": None if first is None else place(first),
        }  # fmt: skip

    def set(
        self, view: str, annotator: str, key: str, label: int | None, expected: int | None,
        request: str,
    ) -> str | None:  # fmt: skip
        """Label an image.

        Returns:
            why it was not done (no image of that key, or one that cannot be shown), or None.

        Raises:
            Conflict: the label is not the expected one any more.
            KeyError, ValueError: no such view, annotator or label.
        """
        writer = self.writer(view, annotator)
        item = self.catalogue.item(key)
        if item is None:
            return "no image of this pool has that key"
        if label is not None and self.images.jpeg(key) is None:
            return f"an image that cannot be shown gets no label: {self.images.broken[key]}"
        self.store.set(key, writer, label, expected, request, item.concept, item.source)
        return None

    def undo(self, view: str, annotator: str, request: str) -> dict[str, Any] | None:
        """Take the last label back; says which, and where it is."""
        undone = self.store.undo(self.writer(view, annotator), request)
        if undone is None:
            return None
        key, label = undone
        keys = self.disputed() if view == DISAGREEMENTS else self.keys
        at = keys.index(key) if key in keys else None
        return {"key": key, "label": label} | ({} if at is None else place(at))

    def agreement(self) -> dict[str, Any]:
        return agreement.agreement(self.store.table())

    def step_counts(self) -> dict[str, Any]:
        """What was found, what was labelled by whom, and what the labels come to."""
        with self.store.locked():
            given = {name: dict(self.store.labels[name]) for name in self.store.annotators()}
        of_image: dict[str, list[tuple[str | None, int]]] = {}
        for name, labels in given.items():
            for key, entry in labels.items() if name != CONSENSUS else ():
                of_image.setdefault(key, []).append((name, entry.label))
        how: Counter[str] = Counter()
        ties = []
        for key, votes in of_image.items():
            label, reason = decide(votes)
            how[reason] += 1
            if label is None:
                ties.append(key)
        counts = {name: Counter(e.label for e in labels.values()) for name, labels in given.items()}
        return {
            "account": self.catalogue.step_counts.as_json(),
            "labels": {
                name or agreement.UNNAMED: {text: found[i] for i, text in enumerate(LABELS)}
                for name, found in counts.items()
            },
            "undecodable": dict(sorted(self.images.broken.items())),
            "labelled_pictures_not_listed_here": len(
                set().union(*given.values()) - self.catalogue.position.keys()
            ),
            "consensus": dict(sorted(how.items())),
            "ties": sorted(ties),
        }
