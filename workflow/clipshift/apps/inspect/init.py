"""A small whole study from paths: a pool, a reference set, test sets, splits and a model."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clipshift.apps.inspect import blocks
from clipshift.apps.inspect.look import Found, look
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import write_text
from clipshift.study.config.names import as_name

WHOLE = 1e9  # seconds: sets state their exact number of samples
PASSES = 20  # over the pool, in training
BATCH = 128
MODEL = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1
    },
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What a study is to be made of.

    Attributes:
        tests: name -> path. None given: a share of each class of the pool is held out.
        held_out: that share; as much again is the reference set, where no `reference` is given.
        columns: the pool's names of fields; template: its captions, where it has labels only.
    """

    pool: Path
    tests: Mapping[str, Path]
    reference: Path | None = None
    format: str | None = None
    columns: Mapping[str, str] | None = None
    template: str | None = None
    held_out: float = 0.2


def named(words: Sequence[str]) -> dict[str, Path]:
    """Paths by name, of words such as `sketch=PATH`.

    Raises:
        ClipshiftError: a word without a name, or a name twice.
    """
    paths: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise ClipshiftError(f"{word!r}: expected NAME=PATH")
        if as_name(name) in paths:
            raise ClipshiftError(f"{word!r}: the name {as_name(name)} is given twice")
        paths[as_name(name)] = Path(path)
    return paths


def study(asked: Asked, name: str) -> str:
    """The configuration, as text; at most 40 lines.

    Raises:
        ClipshiftError: a path cannot be read, or nothing gives labels or captions.
    """
    parts = (not asked.tests) + (not asked.reference)
    if parts and not 0 < asked.held_out < 1 / parts:
        raise ClipshiftError(
            f"--hold-out {asked.held_out:g}: {parts} of such a share are taken from the training "
            f"data; it is above 0 and below {1 / parts:g}"
        )
    exclude = _inside(asked)
    pool = look(asked.pool, asked.format, asked.columns, WHOLE, exclude)
    tests = {test: look(path, seconds=WHOLE) for test, path in asked.tests.items()}
    sets: dict[str, dict[str, Any]] = {}
    first = 0.0  # where the pool's own part begins
    if not tests:
        _labelled(pool, "hold some of it out for testing; give --test NAME=PATH")
        sets["held_out"] = _set(pool, "test", [0.0, asked.held_out], exclude)
        first = asked.held_out
    for test, found in tests.items():
        _labelled(found, "test a classifier on it")
        sets[test] = _set(found, "test")
    if asked.reference:
        reference = look(asked.reference, seconds=WHOLE)
        _labelled(reference, "be the reference set")
        sets["reference"] = _set(reference, "reference")
    else:
        _labelled(pool, "take the reference set from it; give --reference PATH")
        end = round(first + asked.held_out, 6)
        sets["reference"] = _set(pool, "reference", [first, end], exclude)
        first = end
    count = _in_part(pool, first, 1.0) if first else pool.about
    names = [test for test, block in sets.items() if block["role"] == "test"]
    if not (asked.template or pool.labels or pool.captions):
        raise ClipshiftError(
            f"{asked.pool}: its samples have neither captions nor labels; name the column of "
            "captions: --column caption=NAME"
        )
    part = [first, 1.0] if first else None
    config = {
        "pools": {"own": blocks.pool(pool, count, asked.template, exclude, part)},
        "sets": sets,
        "encoders": {"lite0": {"kind": "efficientnet_lite0"}},
        "splits": {
            "full": {"recipe": "full"},
            **{f"pruned_{t}": {"recipe": "pruned", "sets": [t]} for t in names},
            **{f"rand_as_{t}": {"recipe": "rand", "keep": f"pruned_{t}"} for t in names},
        },
        "models": {"tiny": {"model": MODEL} | _training(count)},
        "figures": {
            "similarity_gap": {"sets": {"sets": names, "bases": ["reference", "full"]}},
            "pruned": {"table": {"splits": ["full", "pruned_*", "rand_*"], "sets": names}},
        },
    }
    return _text(config, name)


def _labelled(found: Found, purpose: str) -> None:
    if not found.labels:
        raise ClipshiftError(
            f"{found.dataset.path}: its samples have no labels ({found.dataset.name}), so that "
            f"nobody can {purpose}, or name the column of labels: --column label=NAME"
        )


def _in_part(found: Found, low: float, high: float) -> int:
    """Samples of a part, as `clipshift.datasets.parts` takes them of each class."""
    sizes = [*found.labels.values(), found.samples - found.labels.total()]
    return sum(round(high * n) - round(low * n) for n in sizes)


def _set(
    found: Found, role: str, part: list[float] | None = None, exclude: Sequence[str] = ()
) -> dict[str, Any]:
    samples = _in_part(found, *part) if part else found.about
    block = {"role": role} | blocks.data(found) | ({"part": part} if part else {})
    if exclude:
        block["exclude"] = list(exclude)
    return block | {"classes": len(found.dataset.classes() or found.labels), "samples": samples}


def _inside(asked: Asked) -> list[str]:
    """Patterns of the pool's keys that lie in a test set or the reference set."""
    pool = asked.pool.resolve()
    paths = [path.resolve() for path in (*asked.tests.values(), asked.reference) if path]
    return [f"{p.relative_to(pool)}/*" for p in paths if p.is_relative_to(pool) and p.is_dir()]


def _training(count: int) -> dict[str, int]:
    batch = BATCH
    while batch > 16 and batch > count // 4:
        batch //= 2
    return {"samples": max(1, count * PASSES // batch) * batch, "batch": batch}


def _text(config: dict[str, Any], name: str) -> str:
    """YAML with a line for every block of the second level (models: of the third)."""
    lines = [f"study: {as_name(name)}"]
    for key, section in config.items():
        lines += ["", f"{key}:"]
        for inner, block in section.items():
            if key == "models":
                lines.append(f"  {inner}:")
                lines += [f"    {name}: {_flow(value)}" for name, value in block.items()]
            else:
                lines.append(f"  {inner}: {_flow(block)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.removesuffix("...\n").strip()


def write(asked: Asked, out: Path) -> Sequence[str]:
    """Write the study, and return the commands that come next.

    Raises:
        ClipshiftError: the file is there already.
    """
    if out.exists():
        raise ClipshiftError(f"{out} is there already; give another --out, or delete it")
    text = study(asked, out.stem)
    write_text(out, text)
    file = shlex.quote(str(out))
    return [
        f"clipshift check {file}",
        f"snakemake --cores all --configfile {file} --directory studies/{as_name(out.stem)}",
    ]
