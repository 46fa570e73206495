"""Which classes a text names: pseudo-labels as those of YFCC-15M-Cls (Fang et al. 2022).

The names of all classes become one regular expression, the longest first, so that `tiger shark` is
not a `tiger` and a text is read once whatever the number of classes.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.datasets.prompts import imagenet_names
from clipshift.study.config.captions import Matcher


class ClassNames:
    """Finds the names of classes in texts.

    Args:
        names: per class, in index order, its names; a name of two classes names both.
        case: whether case must agree.
        word_boundary: whether a name must stand as whole words.
    """

    def __init__(self, names: Sequence[Sequence[str]], case: bool, word_boundary: bool):
        self._fold = (lambda text: text) if case else str.casefold
        self._classes: dict[str, list[int]] = {}
        for index, own in enumerate(names):
            for name in own:
                if not name.strip():
                    raise ClipshiftError(f"class {index} has an empty name, which is in every text")
                held = self._classes.setdefault(self._fold(name), [])
                if index not in held:
                    held.append(index)
        if not self._classes:
            raise ClipshiftError("no class has a name to look for in captions")
        longest_first = sorted(self._classes, key=lambda name: (-len(name), name))
        body = "|".join(map(re.escape, longest_first))
        self._pattern = re.compile(rf"(?<!\w)(?:{body})(?!\w)" if word_boundary else f"(?:{body})")

    def find(self, text: str) -> list[int]:
        """Classes that a text names, each once, in the order of their first name in it.

        >>> ClassNames([["tiger"], ["tiger shark"]], True, True).find("a tiger shark, tigers")
        [1]
        """
        found: dict[int, None] = {}
        for match in self._pattern.finditer(self._fold(text)):
            found.update(dict.fromkeys(self._classes[match.group()]))
        return list(found)


def class_names(matcher: Matcher, classes: Sequence[str]) -> list[list[str]]:
    """The names of every class, in the order of `classes`.

    Raises:
        ClipshiftError: names of ImageNet for other than its 1,000 classes, or names of a class
            that is none of the study's.
    """
    if isinstance(matcher.names, Mapping):
        if unknown := sorted(matcher.names.keys() - set(classes)):
            raise ClipshiftError(f"the matcher names {unknown}, which are no classes of the study")
        return [matcher.names.get(name, []) for name in classes]
    names = [[n] for n in imagenet_names()] if matcher.names == "openai" else wordnet_names()
    if len(names) != len(classes):
        raise ClipshiftError(
            f"`names: {matcher.names}` are those of ImageNet's {len(names)} classes, and the study "
            f"has {len(classes)}; give `names` as class -> names"
        )
    return names


@cache
def wordnet_names() -> list[list[str]]:
    """All lemmas of the synset of each of ImageNet's classes, in the order of the indices."""
    text = files("clipshift").joinpath("data/imagenet_wordnet_names.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [[name.strip() for name in line.split(",")] for line in lines]


def finder(matcher: Matcher, classes: Sequence[str]) -> ClassNames:
    """The matcher of a configuration, ready to search."""
    return ClassNames(class_names(matcher, classes), matcher.case, matcher.word_boundary)


def label_of(found: list[int], multi: str) -> tuple[list[int], str | None]:
    """The label of what a text names, or why there is none.

    >>> label_of([3, 1], "drop"), label_of([3, 1], "first")
    (([], 'several classes named'), ([3], None))
    """
    if not found:
        return [], "no class named"
    if len(found) > 1 and multi == "drop":
        return [], "several classes named"
    return (found[:1] if multi == "first" else sorted(found)), None


def text_of(row: Mapping[str, Any], fields: Sequence[str], separator: str = ", ") -> str:
    """Some fields of a row as one text; empty ones vanish."""
    return separator.join(filter(None, ((row[field] or "").strip() for field in fields)))
