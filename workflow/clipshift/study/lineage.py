"""What the files of a study were made from: jobs, inputs, runs, back to files that no job made.

The graph is read from `results/studies/contents.jsonl` (`contents`), so it is there in a copy of
the results, too; runs with their commits and configurations from `runs.jsonl` (`last_run`). The
model is Nextflow's `lineage`.
"""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import sha256_file
from clipshift.study import contents, last_run


@dataclass(frozen=True)
class Made:
    """A file that a job made.

    Attributes:
        output: the file, or the folder that the job declares; inputs: of the job, files or folders;
        params: what else decided it, as Snakemake compared it; started: of the job, or None.
    """

    path: str
    sha256: str
    size: int
    date: int
    output: str
    rule: str
    params: Any
    inputs: tuple[str, ...]
    started: float | None


@dataclass(frozen=True)
class Lineage:
    """All files of a folder that jobs made, by path, and the runs in their order."""

    folder: Path
    files: Mapping[str, Made]
    runs: Sequence[Mapping[str, Any]]

    @cached_property
    def outputs(self) -> dict[str, list[Made]]:
        """Declared output (a file or a folder) -> its files."""
        by_output: dict[str, list[Made]] = {}
        for made in self.files.values():
            by_output.setdefault(made.output, []).append(made)
        return by_output

    def of(self, path: str) -> Made:
        """
        Raises:
            ClipshiftError: no job made it, or the record does not know it yet.
        """
        if path in self.files:
            return self.files[path]
        raise ClipshiftError(
            f"{self.folder / path} is not named by {self.folder / contents.RECORD}, which has what "
            "jobs of finished runs made, with paths as `results/tables/accuracy.csv`"
        )

    def inputs(self, made: Made) -> Iterator[tuple[str, list[Made]]]:
        """Inputs of the job, each with its files; none where no job made it."""
        for path in made.inputs:
            own = self.files.get(path)
            yield path, [own] if own else self.outputs.get(path, [])

    def behind(self, made: Made) -> tuple[dict[str, Made], list[str]]:
        """All files that a file was made from, by path, and the inputs that no job made."""
        known: dict[str, Made] = {}
        outside: dict[str, None] = {}
        ahead = [made]
        while ahead:
            for path, files in self.inputs(ahead.pop()):
                if not files:
                    outside[path] = None
                for file in files:
                    if file.path not in known:
                        known[file.path] = file
                        ahead.append(file)
        return dict(sorted(known.items())), sorted(outside)

    def run_of(self, made: Made) -> Mapping[str, Any] | None:
        """The run that a file's job belonged to."""
        before = [r for r in self.runs if made.started and r["started"] <= made.started]
        return before[-1] if before else None

    def changed(self, made: Made, read: bool = False) -> str:
        """How a file differs from its record; empty where it does not.

        Args:
            read: compare the content, not size and date alone.
        """
        file = self.folder / made.path
        try:
            stat = file.stat()
        except FileNotFoundError:
            return "is gone"
        if stat.st_size != made.size:
            return f"has {stat.st_size} bytes, not {made.size}"
        if (read or stat.st_mtime_ns != made.date) and sha256_file(file) != made.sha256:
            return "has other content"
        return ""


def read(folder: Path) -> Lineage:
    """The lineage of a working directory.

    Raises:
        ClipshiftError: nothing is recorded there.
    """
    entries = contents.read(folder)
    if not entries:
        raise ClipshiftError(
            f"{folder / contents.RECORD}: no run has ended here; name the folder with --directory"
        )
    files = {}
    for path, entry in entries.items():
        for output, job in entry["jobs"].items():
            files[path] = Made(
                path, entry["sha256"], entry["size"], entry["date"], output, job["rule"],
                job["params"], tuple(job.get("input") or job["input_checksums"] or ()),
                job.get("starttime"),
            )  # fmt: skip
    try:
        lines = (folder / last_run.HISTORY).read_text().splitlines()
        runs = sorted(map(json.loads, lines), key=lambda run: float(run["started"]))
    except FileNotFoundError:
        runs = []
    except (ValueError, KeyError, TypeError) as error:
        raise ClipshiftError(
            f"{folder / last_run.HISTORY}: a line is damaged ({error!r}); delete that line"
        ) from None
    return Lineage(folder, files, runs)


def causes(one: Lineage, other: Lineage, path: str) -> dict[str, str]:
    """Why a file differs in two folders: the first files behind it that do, each with its reason.

    Args:
        path: differs, and both know it.
    """
    reasons: dict[str, str] = {}
    seen, ahead = set(), [path]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        a, b = one.of(name), other.of(name)
        below = [f.path for _, files in one.inputs(a) for f in files if f.path in other.files]
        differ = [f for f in below if one.files[f].sha256 != other.files[f].sha256]
        if differ:
            ahead += differ
        if why := _own(a, b):
            reasons[name] = why
        elif not differ:
            reasons[name] = "other content from the same inputs and parameters"
    return dict(sorted(reasons.items()))


def _own(a: Made, b: Made) -> str:
    """How a job differs from another one by itself."""
    if a.rule != b.rule:
        return f"rule {a.rule}, and {b.rule}"
    lacking, more = sorted({*a.inputs} - {*b.inputs}), sorted({*b.inputs} - {*a.inputs})
    texts = [f"without {p}" for p in more[:1]] + [f"with {p}" for p in lacking[:1]]
    texts += [f"{k}: {x}, and {y}" for k, x, y in _differences(loaded(a), loaded(b))]
    return "; ".join(texts)


def loaded(made: Made) -> Any:
    """The parameters of a job as a value; Snakemake records the JSON text's `repr`."""
    try:
        return json.loads(ast.literal_eval(made.params[0]))
    except (ValueError, SyntaxError, TypeError, IndexError):
        return made.params


def _differences(a: Any, b: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Where two values differ: a key, as `recipe.keep`, and both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            yield from _differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield key, short(a), short(b)


def short(value: Any) -> str:
    """A value as JSON of at most 60 letters."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
