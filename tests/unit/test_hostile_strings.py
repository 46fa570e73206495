"""No string of a configuration is read by a shell: a step gets each as it was written."""

import json
import os
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from snakemake.utils import format as snakemake_format

from clipshift.core.step import RUN, Job
from clipshift.study.config.study import Config

HOSTILE = [
    "; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "a && touch PWNED", "| touch PWNED",
    "a\nEND_OF_JOB\ntouch PWNED\n", "\nEND_OF_JOB\n", "END_OF_JOB", "'; touch PWNED; '",
    '"; touch PWNED; "', "a b", " a", "a ", "o'brien", 'say "a"', "it's $HOME", "{x}",
    "{params.job}", "{{x}}", "%s%d", "-n", "--help", "\\", "\\n", "*", "~", "#", "!!",
    "> PWNED", "é日本", "😀",
    "\u202e\u05e9\u05dc", "\u2028", "\x85", "a\tb", "a\rb", "\x00", "\ud800",
]  # fmt: skip
# Writes what it was called with: `python` of a job's line.
RECORDER = """#!/bin/sh
printf '%s\\0' "$@" > recorded.words
cat > recorded.stdin
"""


def members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    if isinstance(annotation, types.GenericAlias) or get_origin(annotation):
        for part in get_args(annotation):
            yield from members(part)
    yield annotation


def models(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """A model and all that its fields hold, by name."""
    found: dict[str, type[BaseModel]] = {}
    rest = [root]
    while rest:
        model = rest.pop()
        if found.setdefault(f"{model.__module__}.{model.__qualname__}", model) is model:
            for field in model.model_fields.values():
                for part in members(field.annotation):
                    if isinstance(part, type) and issubclass(part, BaseModel):
                        name = f"{part.__module__}.{part.__qualname__}"
                        if name not in found:
                            rest.append(part)
    return found


MODELS = models(Config)


def hostile_values(annotation: Any) -> Iterator[Any]:
    """A hostile string, and the same in the containers that a field may be."""
    for text in HOSTILE:
        yield text
        yield [text]
        yield (text, text)
        yield {text: text}
        yield {"a": text}
        yield {"a": [text]}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, Path):
        yield str(value)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def accepted(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    """Keys of a model with the hostile values that they take."""
    for name, field in model.model_fields.items():
        if not any(part is str or part is Path for part in members(field.annotation)):
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(
            Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        )
        for value in hostile_values(field.annotation):
            try:
                yield name, adapter.validate_python(value)
            except (ValidationError, ValueError):
                continue


ACCEPTED = {name: list(accepted(model)) for name, model in MODELS.items()}


def shell_line(job: Job) -> str:
    """What Snakemake gives to a shell for a step."""

    class Params:
        pass

    params: Any = Params()
    params.job = job
    return str(snakemake_format(RUN, params=params, log="job.log"))


def run(line: str, folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Run a job's line with a recorder for `python`: its words, and its standard input."""
    binary = folder / "bin/python"
    if not binary.exists():
        binary.parent.mkdir()
        binary.write_text(RECORDER)
        binary.chmod(0o755)
    env = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": "/nowhere"}
    script = folder / "bin/script"  # as Snakemake does where a line is long
    script.write_text(f"set -euo pipefail; {line}")
    done = subprocess.run(["bash", script], cwd=folder, env=env, capture_output=True, check=True)
    assert done.stdout + done.stderr == b""
    left = {f.name for f in folder.iterdir()}
    assert left == {"bin", "job.log", "recorded.words", "recorded.stdin"}, left
    words = (folder / "recorded.words").read_bytes().decode().split("\0")[:-1]
    stdin = (folder / "recorded.stdin").read_text()
    assert stdin.endswith("}\n") and stdin.count("\n") == 1
    return words, json.loads(stdin)


def test_the_walk_finds_the_strings() -> None:
    """Free texts take all that is hostile; a name takes nothing of it."""
    keys = {f"{model.rsplit('.', 1)[1]}.{key}" for model, found in ACCEPTED.items()
            for key, _ in found}  # fmt: skip
    assert len(MODELS) > 40 and len(keys) > 60
    assert keys >= {"Config.data", "FolderSet.folder", "FolderSet.split", "FolderPool.folder"}
    package = [value for _, value in ACCEPTED["clipshift.study.config.data.Package"]]
    assert {text for value in package for text in texts(value)} <= {"END_OF_JOB"}
    assert sum(len(found) for found in ACCEPTED.values()) > 2000


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("name", [name for name, found in ACCEPTED.items() if found])
def test_a_step_gets_every_string_as_it_is(name: str, tmp_path: Path) -> None:
    """Every key of every block with text, as a parameter of a job."""
    found = ACCEPTED[name]
    blocks = [MODELS[name].model_construct(**{key: value}) for key, value in found]
    job = Job("core.x.y", {"threads": 1}, lambda: {"blocks": blocks})
    words, received = run(shell_line(job), tmp_path)
    assert words == ["-m", "clipshift.core.step", "core.x.y"]
    assert received["files"] == {"threads": 1}
    for (key, value), back in zip(found, received["params"]["blocks"], strict=True):
        if value != MODELS[name].model_fields[key].default:  # which some blocks leave out
            assert set(texts(value)) <= set(texts(back[key])), (key, value)
