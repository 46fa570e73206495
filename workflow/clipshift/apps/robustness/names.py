"""Names of models: what tells two models apart, and the shortest name that still does.

The tools of the field call every model `epoch_32.pt` or `checkpoints`: a model is the whole path of
its run, of which a name shows as much as is needed.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from clipshift.core.errors import ClipshiftError

# Folders and files that every run has; the run is the folder above.
_COMMON = {"checkpoints", "results", "eval_results", "eval", "logs"}
_WEIGHTS = re.compile(r"\.(pt|pth|bin|ckpt|safetensors|npz|tar|onnx)$", re.IGNORECASE)
_ELSEWHERE = re.compile(r"^(hf-hub:|[a-z0-9+.]{2,}://)", re.IGNORECASE)


@dataclass(frozen=True)
class Model:
    """What a model is: words that its name always has, around parts of the path of its run.

    Attributes:
        before, after: words.
        path: from the root; its last part is always shown, where there is any.
    """

    before: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def name(self, parts: int) -> str:
        """The name with so many parts of the path."""
        shown = "/".join(self.path[-parts:])
        return " ".join([*self.before, *([shown] if shown else []), *self.after])


def run_of(file: Path) -> tuple[str, ...]:
    """The path of the run that wrote a file of results: its folder, but for common ones."""
    path = Path(file).resolve()
    stem = () if path.stem.lower() in _COMMON else (path.stem,)
    parts = path.parent.parts
    while not stem and len(parts) > 2 and parts[-1].lower() in _COMMON:
        parts = parts[:-1]
    return (*parts, *stem)


def weights_of(pretrained: str, file: Path) -> tuple[str, ...]:
    """The path of weights that a file of results names; a tag is one part of its own.

    A relative path is below another folder for every run: the file's folder is part of it.
    """
    text = pretrained.strip()
    if not text or _ELSEWHERE.match(text):
        return (text,) if text else ()
    path = re.split(r"[/\\]", text.removeprefix("local-dir:"))
    absolute = path[0] == "" or path[0].endswith(":")
    parts = tuple(part for part in path if part not in ("", "."))
    if absolute or (len(path) == 1 and not _WEIGHTS.search(text)):
        return parts
    return (*file.resolve().parent.parts, *parts)


def shortest(models: Collection[Model]) -> dict[Model, str]:
    """Names that tell the models apart, each with no more of its path than that takes.

    Raises:
        ClipshiftError: the words of two models are the same, although they are not.
    """
    names = {model: model.name(1) for model in models}
    for parts in range(2, 1 + max((len(m.path) for m in models), default=0)):
        times = Counter(names.values())
        names |= {m: m.name(parts) for m, name in names.items() if times[name] > 1}
    ((name, times_of_it),) = Counter(names.values()).most_common(1) or [("", 0)]
    if times_of_it > 1:
        raise ClipshiftError(f"two models are called {name!r}; give one another name")
    return names
