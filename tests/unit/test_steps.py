"""A changed step must say whether its outputs change: by its version, and by a recorded digest."""

import ast
from pathlib import Path

import pytest

from clipshift.core.files import read_json
from clipshift.core.steps import HERE, STEPS, _code, digest
from tests.conftest import ROOT

RECORD = ROOT / "tests/step_digests.json"
# Not part of any digest: messages, writing whole files, accounts. The configuration's values, and
# the paths made of them, are parameters and inputs of the rules already.
NEUTRAL = {
    "config",
    "database",
    "errors",
    "files",
    "layout",
    "ledger",
    "ranges",
    "steps",
    "wildcards",
    "__init__",
}


@pytest.mark.parametrize("name", STEPS)
def test_digest_of_a_step_is_recorded(name: str) -> None:
    recorded = read_json(RECORD) if RECORD.exists() else {}
    current = {"version": STEPS[name].version, "digest": digest(name)}
    assert recorded.get(name) == current, (
        f"the code of the step {name!r} changed: raise its version in workflow/clipshift/core/steps.py "
        "if its outputs change, then run `clipshift steps --record tests/step_digests.json`"
    )


def test_record_holds_no_other_step() -> None:
    assert RECORD.exists(), "run `clipshift steps --record tests/step_digests.json`"
    assert set(read_json(RECORD)) == set(STEPS)


@pytest.mark.parametrize("name", STEPS)
def test_modules_of_a_step_exist(name: str) -> None:
    for module in STEPS[name].modules:
        assert (HERE / module).exists()


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
    assert _code(SOURCE.replace(old, new)) == _code(SOURCE)


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
def test_digest_sees_code(old: str, new: str) -> None:
    assert old in SOURCE
    assert _code(SOURCE.replace(old, new)) != _code(SOURCE)


def test_digest_is_the_same_in_every_python() -> None:
    """`ast.dump` prints empty lists up to Python 3.12 and fields that 3.11 does not have."""
    assert "[]" not in _code(SOURCE)


def imports(module: Path) -> set[Path]:
    """Files of the package that a file imports."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "clipshift":
            names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "clipshift"]
        else:
            continue
        for name in names:
            file = HERE.parent / (name.replace(".", "/") + ".py")
            if file.exists() and file.relative_to(HERE).with_suffix("").parts[0] not in NEUTRAL:
                found.add(file)
    return found


def files_of(name: str) -> set[Path]:
    listed: set[Path] = set()
    for module in STEPS[name].modules:
        path = HERE / module
        listed |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return {path for path in listed if path.suffix == ".py"}


@pytest.mark.parametrize("name", STEPS)
def test_step_lists_every_module_that_it_imports(name: str) -> None:
    listed = files_of(name)
    reached, new = set(listed), set(listed)
    while new:
        new = {file for module in new for file in imports(module)} - reached
        reached |= new
    missing = sorted(str(path.relative_to(HERE)) for path in reached - listed)
    assert missing == [], f"add them to the modules of {name!r} in workflow/clipshift/core/steps.py"
