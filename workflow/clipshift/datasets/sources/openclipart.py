"""The Open Clip Art Library: svg files with RDF metadata, noisy and multilingual as the web is."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path

from clipshift.datasets.sources.base import Item, Rejected, locator, words
from clipshift.study.config.data import OpenclipartSource

# The metadata of a third of the files is not well-formed XML; patterns read all of them.
_AGENT = re.compile(r"<cc:Agent.*?</cc:Agent>", re.S)
_TITLE = re.compile(r"<dc:title(?:\s[^>]*)?(?<!/)>(.*?)</dc:title>", re.S)
_DESCRIPTION = re.compile(r"<dc:description(?:\s[^>]*)?(?<!/)>(.*?)</dc:description>", re.S)
_KEYWORD = re.compile(r"<rdf:li(?:\s[^>]*)?(?<!/)>(.*?)</rdf:li>", re.S)
_CREATOR = re.compile(r"<dc:creator>.*?<dc:title(?:\s[^>]*)?(?<!/)>(.*?)</dc:title>", re.S)


def read(spec: OpenclipartSource, packages: Mapping[str, Path]) -> Iterator[Item | Rejected]:
    root = packages[spec.package]
    folder = root / spec.folder
    for file in folder.rglob("*.svg"):
        place = locator(spec.package, root, file)
        if file.is_symlink():
            yield Rejected(place, "symbolic link")
            continue
        data = file.read_bytes()
        text = data.decode("utf-8", errors="replace")
        category = file.parent.relative_to(folder).as_posix().removeprefix(".")
        fields = {
            "title": _first(_TITLE, _AGENT.sub("", text)),
            "description": _first(_DESCRIPTION, text),
            "keywords": ", ".join(filter(None, map(_clean, _KEYWORD.findall(text)))),
            "category": words(category.replace("/", " ")),
            "kind": words(file.parent.name),
        }
        concept = file.stem.lower()
        yield Item(place, data, category, concept, fields, _first(_CREATOR, text))


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return _clean(found.group(1)) if found else ""


def _clean(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", text))).strip()
