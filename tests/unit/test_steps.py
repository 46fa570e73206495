"""A changed step must say whether its outputs change: by its version, and by a recorded digest."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from clipshift.core.files import read_json
from clipshift.core.step import PACKAGE, RUN, bind, call, step, version_of
from clipshift.core.versions import closure, code, digest, steps
from tests.conftest import ROOT

RECORD = ROOT / "tests/step_digests.json"
STEPS = steps()


@pytest.mark.parametrize("name", STEPS)
def test_digest_of_a_step_is_recorded(name: str) -> None:
    recorded = read_json(RECORD) if RECORD.exists() else {}
    current = {"version": STEPS[name], "digest": digest(name)}
    assert recorded.get(name) == current, (
        f"the code of the step {name!r} changed: raise the version at its `@step` if its outputs "
        "change, then run `clipshift steps --record tests/step_digests.json`"
    )


def test_record_holds_no_other_step() -> None:
    assert RECORD.exists(), "run `clipshift steps --record tests/step_digests.json`"
    assert set(read_json(RECORD)) == set(STEPS)


def test_the_code_of_a_step_is_all_that_it_reads() -> None:
    def names(step: str) -> set[str]:
        return {str(file.relative_to(PACKAGE)) for file in closure(step)}

    split = names("splits.split.split")
    assert split >= {"splits/split.py", "splits/recipes/__init__.py", "core/database.py"}
    assert not [name for name in split if name.startswith(("study/", "similarity/"))]
    # A program that it starts, what that one imports, and data files.
    assert names("training.clip.train") >= {"training/open_clip_main.py", "training/batches.py"}
    assert "data/imagenet_wordnet_names.txt" in names("datasets.captions.corpora.corpus")
    assert "data/published_domains.json" in names("figures.kinds.domain_bars.figure")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("splits.split.split", "splits/recipes"),
        ("similarity.embed.shard", "similarity/encoders"),
        ("classifiers.fit.write_fit", "classifiers/methods"),
        ("classifiers.fit.write_fit", "similarity/encoders"),
        ("classifiers.score.write_vector_scores", "classifiers/methods"),
        ("classifiers.score.write_picture_scores", "similarity/encoders"),
        ("apps.audit.run.audit", "similarity/encoders"),
    ],
)
def test_modules_found_by_their_package_are_part_of_the_code(name: str, package: str) -> None:
    modules = set((PACKAGE / package).glob("*.py"))
    assert len(modules) > 4 and closure(name) >= modules


SOURCE = '''
"""A module."""
# A comment.
def f(x, y=1):
    """What it does."""
    return x + y  # why


class C:
    """A class."""
    a = 1
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment.", ""),
        ("  # why", ""),
        ("What it does.", "What it really does."),
        ('"""A module."""', '"""Another\nmodule."""'),
        ("return x + y", "return (x  +  y)"),
        ('    """What it does."""\n', ""),
        ('    """A class."""\n', ""),
        ('"""A module."""\n', ""),
    ],
)
def test_digest_is_blind_to_comments_docstrings_and_layout(old: str, new: str) -> None:
    assert old in SOURCE
    assert code(SOURCE.replace(old, new)) == code(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + y", "x - y"),
        ("y=1", "y=2"),
        ("def f", "def g"),
        ("a = 1", "a = '1'"),
        ("a = 1", "b = 1"),
        ("return x", "return 'text'; return x"),
    ],
)
def test_digest_seescode(old: str, new: str) -> None:
    assert old in SOURCE
    assert code(SOURCE.replace(old, new)) != code(SOURCE)


def test_digest_is_the_same_in_every_python() -> None:
    """`ast.dump` prints empty lists up to Python 3.12 and fields that 3.11 does not have."""
    assert "[]" not in code(SOURCE)


def test_digest_is_blind_to_the_version() -> None:
    text = "@step(version={})\ndef f(): return 1"
    assert code(text.format(1)) == code(text.format(2))


def test_version_is_read_from_the_source() -> None:
    assert all(version_of(name) == version for name, version in STEPS.items())
    with pytest.raises(LookupError, match="no_such"):
        version_of("splits.split.no_such")
    with pytest.raises(ValueError, match="begin with 1"):
        step(version=0)


class Wildcards(SimpleNamespace):
    def items(self) -> Any:
        return vars(self).items()


def parameters(**params: Any) -> dict[str, Any]:
    """What Snakemake would get of a rule: the text that counts, and the job's data."""
    own = call("splits.guard.write_list", **params)
    wildcards, none = Wildcards(split="a"), SimpleNamespace(items={}.items)
    files = type("Files", (list,), {"items": lambda self: [("table", self[0])]})(["t", "o"])
    job = own["job"](wildcards, none, files, 2, {})
    return {"counted": json.loads(own["counted"](wildcards)), **json.loads(str(job))}


def test_parameters_that_take_files_do_not_count() -> None:
    given = parameters(
        a="x/{split}/{00..11}",
        b=lambda w: w.split,
        c=lambda w, output: output[0],
        d={"z": 1, "a": 2},
    )
    own = {"a": "x/a/{00..11}", "b": "a", "d": {"z": 1, "a": 2}}
    assert given["counted"] == {"version": 1} | own
    assert list(given["counted"]["d"]) == ["z", "a"]  # order within a value counts
    assert given["params"] == own | {"c": "t"}
    assert given["files"] == {"split": "a", "threads": 2, "table": "t", "out": "o"}


def example(split: Path, table: Path | None, n: int = 3) -> None: ...


@pytest.mark.parametrize(
    ("files", "params", "bound"),
    [
        ({"split": "s", "table": []}, {}, {"split": Path("s"), "table": None}),
        (
            {"split": "s", "table": ["t"]},
            {"n": "4"},
            {"split": Path("s"), "table": Path("t"), "n": 4},
        ),
        ({"split": "s", "table": "t", "other": "o"}, {}, {"split": Path("s"), "table": Path("t")}),
    ],
)
def test_arguments_of_a_step(files: Any, params: Any, bound: Any) -> None:
    assert bind(example, {"files": files, "params": params}) == bound


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(TypeError, match=r"takes no \['m'\]"):
        bind(example, {"files": {"split": "s", "table": "t"}, "params": {"m": 1}})
    with pytest.raises(TypeError, match="misses 'split'"):
        bind(example, {"files": {"table": "t"}, "params": {}})
    with pytest.raises(ValidationError):
        bind(example, {"files": {"split": "s", "table": "t"}, "params": {"n": "many"}})


def test_no_text_of_a_job_is_read_by_a_shell(tmp_path: Path) -> None:
    """Quotes, dollars and 300 kB come through; the error is one line for people."""
    text = "$(touch hacked) `touch hacked` ' \" \\ " + "x" * 300_000
    job = json.dumps({"files": {"split": f"{text}.parquet", "out": "o"}, "params": {"tests": {}}})
    line = RUN.replace("{params.job.step}", "splits.guard.write_list").replace("{log:q}", "log")
    script = tmp_path / "script.sh"
    script.write_text(line.replace("{params.job}", job).replace("python", sys.executable, 1))
    done = subprocess.run(["bash", str(script)], cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert text[:100] in (tmp_path / "log").read_text()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["log", "script.sh"]
