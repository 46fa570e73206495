"""Emoji images in one style, from files named by code point or from an iconify set.

Labels come from OpenMoji's table for every style, so that the concept (the code point) is the
same in all of them. Skin-tone variants are rejected: they are one image five times.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.sources.base import Item, Rejected, leads_out, locator, words
from clipshift.study.config.data import EmojiSource

SUFFIXES = {".svg", ".png", ".webp"}


def code_point(text: str) -> str:
    """Canonical code point sequence: lower case, without the variation selector.

    >>> code_point("0023-FE0F-20E3")
    '23-20e3'
    """
    parts = [p.lstrip("0") for p in text.lower().split("-")]
    return "-".join(p for p in parts if p != "fe0f")


def concept(code: str) -> str:
    """The concept of a code point sequence: gender and direction variants are one concept.

    >>> concept("1f469-200d-1f373"), concept("1f9d1-200d-1f373")
    ('1f9d1-1f373', '1f9d1-1f373')
    """
    person = {"1f468": "1f9d1", "1f469": "1f9d1"}
    variants = {"200d", "2640", "2642", "27a1"}
    return "-".join(person.get(p, p) for p in code.split("-") if p not in variants) or code


def read(spec: EmojiSource, packages: Mapping[str, Path]) -> Iterator[Item | Rejected]:
    labels = _labels(packages[spec.labels])
    images = _iconify if spec.layout == "iconify" else _files
    for place, code, data in images(spec, packages[spec.pictures]):
        label = labels.get(code)
        if data is None:
            yield Rejected(place, "alias of another icon")
        elif label is None:
            yield Rejected(place, "no label for this code point")
        elif label["skintone"]:
            yield Rejected(place, "skin-tone variant")
        else:
            group, subgroup = label["group"], label["subgroups"]
            tags = ", ".join(t for t in (label["tags"], label["openmoji_tags"]) if t)
            fields = {
                "annotation": label["annotation"],
                "group": words(group),
                "subgroup": words(subgroup),
                "tags": tags,
            }
            yield Item(place, data, f"{group}/{subgroup}", concept(code), fields)


def _labels(root: Path) -> dict[str, dict[str, str]]:
    path = root / "package/data/openmoji.json"
    if not path.exists():
        raise ClipshiftError(f"{path.name} is not in the labels package (looked for {path})")
    return {code_point(row["hexcode"]): row for row in json.loads(path.read_text())}


def _files(spec: EmojiSource, root: Path) -> Iterator[tuple[str, str, bytes | None]]:
    for file in (root / spec.folder).iterdir():
        if file.suffix in SUFFIXES and not leads_out(file, root):
            yield locator(spec.pictures, root, file), code_point(file.stem), file.read_bytes()


def _iconify(spec: EmojiSource, root: Path) -> Iterator[tuple[str, str, bytes | None]]:
    folder = root / spec.folder
    icons = json.loads((folder / "icons.json").read_text())
    for code, name in json.loads((folder / "chars.json").read_text()).items():
        place = f"{spec.pictures}:{spec.folder}/icons.json#{name}"
        body = icons["icons"].get(name)
        if body is None:
            yield place, code_point(code), None
        else:
            width = body.get("width", icons.get("width", 16))
            height = body.get("height", icons.get("height", 16))
            svg = (
                '<svg xmlns="http://www.w3.org/2000/svg" '
                'xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="0 0 {width} {height}">{body["body"]}</svg>'
            )
            yield place, code_point(code), svg.encode()
