"""One interface between Snakemake and Python: a rule hands its data to a typed function.

A step is a function with `@step(version=N)`. A rule names it, and gives what it needs beside files:

    params:
        **call("similarity.margins.thresholds", tests="results/embeddings/{encoder}/{testset}"),
    shell:
        RUN

The function's arguments are found by name: among the parameters, then the rule's named outputs
(`out`: those without a name), its named inputs, its wildcards and `threads`. Values are checked
against the annotations (pydantic): paths, numbers, blocks of the configuration. The job's data
reach Python on standard input, as JSON in a here-document, so nothing of a configuration is ever
read by a shell, and no length is too much for a command line. A second argument names a file that
holds them instead, for a program that is started several times.

Imported when Snakemake reads the workflow: standard library only up here.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

F = TypeVar("F", bound=Callable[..., None])
PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]  # of the checkout
# What Snakemake gives a parameter's function that triggers no rerun.
GIVEN = {"input", "output", "threads", "resources"}
# `set -euo pipefail` comes from Snakemake. The quoted word turns off every expansion.
RUN = (
    "python -m clipshift.core.step {params.job.step} > {log:q} 2>&1 <<'END_OF_JOB'\n"
    "{params.job}\nEND_OF_JOB"
)


def step(*, version: int) -> Callable[[F], F]:
    """Mark a function as a step. Raise `version` when its outputs change: its rule runs again."""
    if version < 1:
        raise ValueError("versions begin with 1")
    return lambda function: function


@cache
def version_of(name: str) -> int:
    """The version of a step `module.function`, read from the source: importing it takes seconds.

    Raises:
        LookupError: there is no such step.
    """
    module, _, function = name.rpartition(".")
    match = re.search(
        rf"^@step\(version=(\d+)\)\ndef {re.escape(function)}\(",
        (PACKAGE / f"{module.replace('.', '/')}.py").read_text(),
        re.MULTILINE,
    )
    if not match:
        raise LookupError(f"clipshift.{name} is no step")
    return int(match[1])


class Job:
    """What a step needs, as JSON where the shell line is written: a plan asks for none of it."""

    def __init__(self, step: str, files: dict[str, Any], params: Callable[[], dict[str, Any]]):
        self.step, self.files, self.params = step, files, params

    def __str__(self) -> str:
        return json.dumps({"files": self.files, "params": self.params()}, default=_plain)


def call(step: str | Callable[[Any], str], **params: Any) -> dict[str, Any]:
    """The parameters of a rule that runs a step.

    Args:
        step: `module.function` below `clipshift`, or a function of the wildcards that says it.
        params: a value, text with wildcards in braces, or a function of the wildcards. A change of
            one makes the rule's files again, unless its function also takes `input`, `output`,
            `threads` or `resources`.
    """
    # What each function takes beside the wildcards: looked up once, not for each job of a plan.
    taken = {k: GIVEN & {*signature(v).parameters} for k, v in params.items() if callable(v)}

    def name(wildcards: Any) -> str:
        return step if isinstance(step, str) else step(wildcards)

    def values(names: Iterable[str], wildcards: Any, **context: Any) -> dict[str, Any]:
        texts = dict(wildcards.items())
        resolved = {}
        for key in names:
            value = params[key]
            if key in taken:
                value = value(wildcards, **{n: context[n] for n in taken[key]})
            elif isinstance(value, str):
                value = _filled(value, texts)
            resolved[key] = value
        return resolved

    # Parameters whose change makes the files again. Sorted by name; within a value order matters:
    # that of classes is the order of labels.
    triggers = sorted(key for key in params if not taken.get(key))

    def counted(wildcards: Any) -> str:
        record = {"version": version_of(name(wildcards))} | values(triggers, wildcards)
        return json.dumps(dict(sorted(record.items())), default=_plain)

    def job(wildcards: Any, input: Any, output: Any, threads: int, resources: Any) -> Job:
        context = {"input": input, "output": output, "threads": threads, "resources": resources}
        files = {"threads": threads, **dict(wildcards.items())}
        files |= {k: _files(v) for k, v in input.items()}
        named = {k: _files(v) for k, v in output.items()}
        named_files = {f for v in named.values() for f in ([v] if isinstance(v, str) else v)}
        rest = [str(f) for f in output if str(f) not in named_files]
        files |= {"out": rest[0] if len(rest) == 1 else rest} | named
        return Job(name(wildcards), files, lambda: values(params, wildcards, **context))

    return {"counted": counted, "job": job}


def _filled(text: str, wildcards: Mapping[str, str]) -> str:
    """Text with wildcards; other braces (ranges of numbers) stay."""
    return re.sub(r"\{(\w+)\}", lambda m: wildcards.get(m[1], m[0]), text)


def _files(value: Any) -> str | list[str]:
    return str(value) if isinstance(value, str) else [str(v) for v in value]


def _plain(value: Any) -> Any:
    """Blocks of the configuration, as JSON."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of {type(value)} is no parameter of a job")


def bind(function: Callable[..., None], job: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a step, checked against its annotations.

    Raises:
        TypeError: an argument is missing, or a parameter of the rule is none of the function's.
        pydantic.ValidationError: a value is not what the annotation says.
    """
    from pydantic import TypeAdapter

    hints = get_type_hints(function, include_extras=True)
    parameters = signature(function).parameters
    if unknown := sorted(set(job["params"]) - set(parameters)):
        raise TypeError(f"{function.__module__}.{function.__name__} takes no {unknown}")
    values = job["files"] | job["params"]
    arguments = {}
    for name, parameter in parameters.items():
        if name not in values:
            if parameter.default is Parameter.empty:
                raise TypeError(f"{function.__module__}.{function.__name__} misses {name!r}")
            continue
        value = values[name]
        # What a job may lack, input functions give as a list of one or none.
        kinds = get_args(hints[name])
        several = any(get_origin(kind) is list for kind in kinds)
        if isinstance(value, list) and type(None) in kinds and not several:
            value = value[0] if value else None
        arguments[name] = TypeAdapter(hints[name]).validate_python(value)
    return arguments


def main() -> None:
    from clipshift.core.errors import run
    from clipshift.core.processes import die_with_starter

    die_with_starter("clipshift.core.step")
    module, _, name = sys.argv[1].rpartition(".")
    job = json.loads(Path(sys.argv[2]).read_text()) if sys.argv[2:] else json.load(sys.stdin)
    function = getattr(import_module(f"clipshift.{module}"), name)
    run(lambda: function(**bind(function, job)))


if __name__ == "__main__":
    main()
