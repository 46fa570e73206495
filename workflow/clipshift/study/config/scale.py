"""A study made smaller: the same plan, with the numbers that the block `scale` lowers.

Which fields it changes, and by which of its keys, is marked in their types
(`numbers.Scaled`); a block of another room joins by such a mark. Applied to the validated
configuration before anything else reads it (`load.parse`), so that every rule and every key is the
full study's own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from clipshift.study.config.data import Block
from clipshift.study.config.names import EncoderName
from clipshift.study.config.numbers import POINTS, Json, Scaled
from clipshift.study.config.references import marked

if TYPE_CHECKING:
    from clipshift.study.config.study import Config

# Ends the name of a study that was made smaller.
SUFFIX = "_scaled"
# A sample less would be none, or no comparison.
LEAST = 2
Path = tuple[str | int, ...]
Rule = Callable[[Path, Any], Any]


class Scale(Block):
    """The study made smaller, key by key; a key that is left out changes nothing.

    Names stay (`rand_100M` is then 100M of 407M, as a share of `images`), but that of the study
    ends in `_scaled`, and its results need a folder of their own.
    """

    images: int | None = Field(
        default=None,
        ge=1,
        le=POINTS,
        description="Images of the study's pool. Every count of them (kept by splits, sampled for "
        "clusters, seen by trainings) and the clusters become as many times fewer, 2 at least.",
    )
    labelled: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the images of the other pools, and of classifiers' `size`.",
    )
    set_images: int | None = Field(
        default=None, ge=2, le=POINTS, description="Images of a labelled set, at most."
    )
    classes: int | None = Field(
        default=None,
        ge=2,
        le=POINTS,
        description="Classes of a set or pool, at most: ImageNet's first ones.",
    )
    tars: int | None = Field(default=None, ge=1, le=100_000, description="Tars of a pool, at most.")
    shards: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Shards of a pool, and jobs of the clusters, at most.",
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Passes of any training over its images, at most.",
    )
    batch: int | None = Field(
        default=None, ge=2, le=10_000_000, description="Batch of any training, at most."
    )
    warmup: int | None = Field(default=None, ge=0, le=10**9, description="Warm-up steps, at most.")
    gpus: int | None = Field(
        default=None, ge=0, le=1024, description="GPUs of a training, at most."
    )
    precision: str | None = Field(
        default=None, description="Precision of the trainings that are not `fp32`."
    )
    model: Json = Field(
        default={},
        description="The most of numbers of the models' open_clip configurations, by its keys: "
        "`{vision_cfg: {layers: 1}}`.",
    )
    encoders: dict[EncoderName, Json] = Field(
        default={},
        description="Other values of an encoder's keys: the small model, and its weights, that "
        "stand in for it.",
    )


class Change(NamedTuple):
    """A value of the configuration that becomes another."""

    path: Path
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.path))}: {self.old} -> {self.new}"


def changes(cfg: "Config") -> list[Change]:
    """What the block `scale` changes, in the order of the configuration; none without it."""
    if cfg.scale is None:
        return []
    rules = _rules(cfg, cfg.scale)
    made = [Change(("study",), cfg.study, f"{cfg.study}{SUFFIX}")]
    for path, mark, value in marked(cfg, Scaled):
        new = rules[mark.key](path, value)
        made += _differences(path, value, new)
    for name, keys in cfg.scale.encoders.items():
        old = cfg.encoders[name].model_dump()
        made += _differences(("encoders", name), old, old | keys)
    return made


def changed(raw: Mapping[str, Any], made: Sequence[Change]) -> dict[str, Any]:
    """The raw keys of a configuration (sweeps spelled out) with these changes."""
    smaller = deepcopy(dict(raw))
    for path, _, new in made:
        block: Any = smaller
        for part in path[:-1]:
            block = block.setdefault(part, {})
        block[path[-1]] = new
    return smaller


def _rules(cfg: "Config", scale: Scale) -> dict[str, Rule]:
    """Key of a mark -> the value that takes the place of one at a path."""
    whole: int | None = getattr(cfg.pools[cfg.pool], "samples", None)
    share = scale.images / whole if scale.images and whole else 1.0

    def images(path: Path, value: Any) -> Any:
        return _share(value, share)

    def labelled(path: Path, value: Any) -> Any:
        return _share(value, scale.labelled or 1.0)

    def samples(path: Path, value: Any) -> Any:
        if path[0] == "sets":
            return _most(value, scale.set_images)
        return images(path, value) if path[1] == cfg.pool else labelled(path, value)

    def seen(path: Path, value: Any) -> Any:
        most = scale.epochs and scale.epochs * whole if whole else None
        return images(path, _most(value, most))

    def gaps(path: Path, value: Any) -> Any:
        return [n for n in value if scale.tars is None or n < scale.tars]

    def precision(path: Path, value: Any) -> Any:
        return value if value == "fp32" else scale.precision or value

    def training(path: Path, value: Any) -> Any:
        """Changes of a controlled model: keys of a training, scaled as those of its base."""
        from clipshift.study.config import causes

        block = causes.training(cfg, str(path[2]))
        marks = {name: field.metadata for name, field in type(block).model_fields.items()}
        new = dict(value)
        for key in value:
            for mark in marks.get(key, ()):
                if isinstance(mark, Scaled):
                    new[key] = rules[mark.key]((*path, key), value[key])
        return new

    def model(path: Path, value: Any) -> Any:
        return _capped(value, scale.model)

    rules: dict[str, Rule] = {
        "images": images, "labelled": labelled, "samples": samples, "seen": seen, "gaps": gaps,
        "precision": precision, "training": training, "model": model,
    }  # fmt: skip
    most = ("classes", "tars", "shards", "epochs", "batch", "warmup", "gpus")
    rules |= {key: _at_most(getattr(scale, key)) for key in most}
    return rules


def _differences(path: Path, old: Any, new: Any) -> Iterator[Change]:
    """The changes at or below a path, each where it is."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in new.items():
            yield from _differences((*path, key), old.get(key), value)
    elif new != old:
        yield Change(path, old, new)


def _at_most(most: int | None) -> Rule:
    return lambda path, value: _most(value, most)


def _share(value: Any, share: float) -> Any:
    """A part of a count; shares, names and zeros stay."""
    if type(value) is not int or not value or share == 1:
        return value
    return min(value, max(LEAST, round(value * share)))


def _most(value: Any, most: int | None) -> Any:
    return value if value is None or most is None else min(value, most)


def _capped(value: Any, most: Any) -> Any:
    """Numbers below those of the same keys; every number of a list below the list's."""
    if isinstance(value, dict) and isinstance(most, dict):
        return {key: _capped(part, most.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_capped(part, most) for part in value]
    return min(value, most) if _number(value) and _number(most) else value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def described(made: Sequence[Change]) -> Iterator[str]:
    """Lines for people: what is smaller than in the full study."""
    if made:
        yield f"scale: {len(made)} values are not the full study's"
        yield from (f"  {change}" for change in made)
