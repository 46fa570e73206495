"""A folder of images, each with a `.txt` beside it whose first line is the caption."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipshift.datasets.sources.base import Item, Rejected, locator, words
from clipshift.study.config.data import SidecarSource


def read(spec: SidecarSource, packages: Mapping[str, Path]) -> Iterator[Item | Rejected]:
    root = packages[spec.package]
    folder = root / spec.folder
    for file in folder.rglob(f"*{spec.suffix}"):
        place = locator(spec.package, root, file)
        text = file.with_suffix(".txt")
        if file.is_symlink():
            yield Rejected(place, "symbolic link")
        elif not text.exists():
            yield Rejected(place, "no caption file")
        else:
            title = text.read_text(errors="replace").split("\n", 1)[0].strip()
            # `dog.png` and `dog_2.png` show one concept.
            concept = re.sub(r"[\d_-]+$", "", file.stem).lower() or file.stem.lower()
            category = file.parent.relative_to(folder).as_posix().removeprefix(".")
            fields = {
                "title": title.rstrip("."),
                "category": words(category.replace("/", " ")),
                "kind": words(file.parent.name),
            }
            yield Item(place, file.read_bytes(), category, concept, fields)
