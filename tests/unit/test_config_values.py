"""Configurations that cannot be meant: damaged files, and values that no study can have."""

import copy
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.load import load, parse
from clipshift.study.config.study import Config
from tests.conftest import ROOT
from tests.unit.mutants import mutant

SOURCE = ROOT / "config/test.yaml"
TEST = yaml.safe_load(SOURCE.read_text())
NAN, INF = float("nan"), float("inf")


def numbers(hint: Any, marks: list[Any], where: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """(where, marks) of every number below a type."""
    if hasattr(hint, "__metadata__"):
        yield from numbers(hint.__origin__, [*marks, *hint.__metadata__], where, seen)
    elif hint in (int, float):
        flat = [m.metadata if isinstance(m, FieldInfo) else [m] for m in marks]
        yield where, [m for some in flat for m in some]
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        if hint not in seen:
            seen.add(hint)
            for name, field in hint.model_fields.items():
                place = f"{hint.__name__}.{name}"
                yield from numbers(field.annotation, field.metadata, place, seen)
    elif get_origin(hint) is not Literal:
        union = get_origin(hint) in (Union, UnionType)
        for part in get_args(hint):
            yield from numbers(part, marks if union else [], where, seen)


def test_every_number_has_both_ends() -> None:
    found = list(numbers(Config, [], "", set()))
    names = {where for where, _ in found}
    assert {"Training.lr", "Dedup.sweep", "Near.keep", "Config.seeds", "Costs.gpus"} <= names
    for kinds in ((Ge, Gt), (Le, Lt)):
        assert not [w for w, marks in found if not any(isinstance(m, kinds) for m in marks)]


def test_no_block_takes_nan() -> None:
    seen: set[Any] = set()
    list(numbers(Config, [], "", seen))
    assert all(block.model_config["allow_inf_nan"] is False for block in seen)


def fault(path: str, value: Any) -> str:
    """The message about a valid study with one value at a path of keys."""
    raw = copy.deepcopy(TEST)
    block = raw
    *above, last = path.split(".")
    for key in above:
        block = block[key]
    block[last] = value
    with pytest.raises(ClipshiftError) as error:
        parse(raw)
    return str(error.value)


OPEN_CLIP = {"kind": "open_clip", "model": "ViT-B-32"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models.nano.lr", NAN, "models.nano.lr: Input should be a finite number"),
        ("models.nano.lr", "nan", "models.nano.lr: Input should be a finite number"),
        ("models.nano.lr", 1e30, "models.nano.lr: Input should be less than or equal to 100"),
        ("models.nano.lr", -1, "models.nano.lr: Input should be greater than 0"),
        ("models.nano.samples", 10**40, "models.nano.samples: Input should be less than"),
        ("models.nano.gpus", True, "gpus: expected a number, found true or false"),
        ("models.nano.cache_px", 0, "models.nano.cache_px: Input should be greater than or equal"),
        ("models.nano.augmentation", {"scale": [NAN]}, "augmentation: nan is no finite number"),
        ("models.nano", [], "models.nano: Input should be a valid dictionary"),
        ("splits.test_near.keep", INF, "splits.test_near.keep: Input should be a finite number"),
        ("splits.test_near.keep", 1, "splits.test_near.keep: 1 would be one point; 1.0 is all"),
        ("splits.test_combined.tolerance", 3, "tolerance: Input should be less than or equal to 2"),
        ("seeds", [0, 0], "seeds: 0 is there twice"),
        ("seeds", [-1], "seeds.0: Input should be greater than or equal to 0"),
        ("seeds", [True], "seeds: expected a number"),
        ("dedup.pairs_above", -2, "dedup.pairs_above: Input should be greater than or equal to -1"),
        ("neighbours", {"grid": [0.5, 0.4]}, "neighbours.grid: expected numbers that ascend"),
        ("rendering.px", 0, "rendering.px: Input should be greater than or equal to 16"),
        ("encoders", {"lite0_64": OPEN_CLIP | {"pretrained": ""}}, "encoders.lite0_64.pretrained"),
        ("encoders", {"lite0_64": OPEN_CLIP | {"pretrained": " "}}, "pretrained: names no weights"),
        ("evaluation.templates", ["a {}"], "'a {}' needs {c} for the class, and no other braces"),
        ("evaluation.templates", ["{c"], "'{c' needs {c}"),
        ("evaluation.templates", ["{c} {d}"], "'{c} {d}' needs {c}"),
        ("study", "a" * 300, "study: String should have at most 80 characters"),
        ("splits", {"x_{keep}_{seed}": {"recipe": "rand", "keep": list(range(2, 1002)),
                                        "seed": list(range(1000))}}, "makes 1,000,000 splits"),
        ("figures.ruler", {"a": {"sets": [3, "*"], "bases": ["test_*"]}}, "figures.ruler.a.sets.0"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_meant(path: str, value: Any, message: str) -> None:
    assert message in fault(path, value)


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 300))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: {c: 1,\n c: 2}", "line 3: the key 'c' is there twice .* first in line 2"),
        (b"1: a\ntrue: b", "line 2: the key True is there twice"),
        (b"a: 2024-13-45", "line 1: 2024-13-45 is read as a date; put it in quotes"),
        (b"a: 2024-12-25", "line 1: 2024-12-25 is read as a date"),
        ("a: 1".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a: 1".encode("utf-32"), "is UTF-32; save it as UTF-8"),
        (b"a: 1\nb: \xe4", "line 2: the byte 0xe4 is no UTF-8"),
        (b"a: 1\nb: \0", "is not YAML"),
        (b'a: "\\0"', "line 1: a text with the character NUL"),
        (b"a:\n\t- 1", "line 2, column 1: .*cannot start any token"),
        (b"[" * 100_000, "line 1: more than 100 levels of nesting"),
        (b"{a: " * 5000, "line 1: more than 100 levels of nesting"),
        (b"a: " + b"9" * 5000, r"line 1: '9{40}\.\.\.' has too many digits"),
        (b"a: !!int x", "line 1: 'x' is no int"),
        (b"a: !!set {b}", "line 1: the tag 'tag:yaml.org,2002:set'"),
        (b"? !!set {b}\n: c", "line 1: a key is a list or a mapping"),
        (b"a: !!python/name:os.system x", "line 1: the tag"),
        (b"a: &a [*a]", "line 1: an alias refers to what it stands in"),
        (BOMB.encode(), "aliases make more than 300,000 values"),
        (CHAIN.encode(), "or 100 levels"),
        (b"a: 1\n---\nb: 1", "expected a single document"),
        (b"- a", "holds no keys"),
        (b"", "holds no keys"),
        (b"\x1f\x8b\x08\xff\xff", "is compressed with gzip"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_meant(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(data)
    with pytest.raises(ClipshiftError, match=rf"^configuration .*study\.yaml.*{message}"):
        load(file)


def test_a_mark_of_utf_8_and_merged_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(SOURCE.read_text().encode("utf-8-sig"))  # has `<<: *emoji` and its own folder
    assert load(file) == load(SOURCE)


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file, message in ((tmp_path / "pipe", "pipe is a pipe"), (tmp_path, "is a folder"),
                          (Path("/dev/zero"), "/dev/zero is a device")):  # fmt: skip
        with pytest.raises(ClipshiftError, match=message):
            load(file)


def test_hundreds_of_wrong_keys_take_no_time(tmp_path: Path) -> None:
    raw = copy.deepcopy(TEST)
    raw["models"]["nano"] |= {f"sampels{i}": 1 for i in range(300)}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(raw))
    began = time.process_time()
    with pytest.raises(ClipshiftError) as error:
        load(file)
    assert time.process_time() - began < 1
    assert str(error.value).count("did you mean 'samples'?") == 300


def test_snakemake_refuses_a_key_that_is_there_twice(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    near = "  test_near: {recipe: rand, keep: 0.2}\n"
    file.write_text(SOURCE.read_text().replace("  test_far:", f"{near}  test_far:"))
    command = [sys.executable, "-m", "snakemake", "-n", "-s", str(ROOT / "Snakefile")]
    command += ["-d", str(tmp_path), "--configfile", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the key 'test_near' is there twice" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


VALUES: list[Any] = [
    None, True, 0, 1, -1, 10**30, NAN, INF, "", " ", "nan", "../x", "a" * 500, [], {}, [[]],
    {"a": 1}, [None], {1: 2}, "{c}", "{", "*", [1, "a", None], {"recipe": "x"}, {"kind": "run"},
]  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


def swapped(rng: random.Random) -> bytes:
    """The study with other values, keys of other types, or without some."""
    raw = copy.deepcopy(TEST)
    for _ in range(rng.choice((1, 3))):
        holder, key = rng.choice(list(places(raw)))
        what = rng.randrange(4)
        if what == 0 and isinstance(holder, dict):
            holder[rng.choice(("x", 1, None, True, "{a}", f"{key}s"))] = holder.pop(key)
        elif what == 1:
            del holder[key]
        else:
            holder[key] = rng.choice(VALUES)
    return yaml.safe_dump(raw).encode()


def test_mutants_of_a_study_are_read_or_refused(tmp_path: Path) -> None:
    """No mutant ends in anything but a configuration or a `ClipshiftError`."""
    file = tmp_path / "study.yaml"
    outcomes = Counter[str]()
    for number in range(200):
        rng = random.Random(number)
        file.write_bytes(mutant(SOURCE.read_bytes(), rng) if number % 2 else swapped(rng))
        try:
            load(file)
            outcomes["read"] += 1
        except ClipshiftError as error:
            assert error.args
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 10
