"""Whether a step's code changed since its version was last looked at.

Snakemake does not see a change in an imported module, and a touched script would recompute days of
work. So a step carries a version, which is part of its rule's parameters, and whoever changes its
outputs raises it in the same commit. `tests/step_digests.json` has the digest of each step's code;
a test compares, and `clipshift steps --record FILE` records new digests, also for an edit that
changes no output.

The code of a step is its module and all that it imports of this package, but for the study's room:
values of the configuration and paths reach a step as parameters and inputs. Of a package that it
takes something from, rather than a module, it is all modules: they register there by their names.
"""

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

from clipshift.core.step import PACKAGE

# Not looked at: the types of the configuration, and messages.
NEUTRAL = ("study", "core/errors.py", "core/step.py", "__init__.py")


def steps() -> dict[str, int]:
    """Version of each step of the package, by `module.function`."""
    versions = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        # Not imported: torch and pyarrow would be read for every step.
        for version, name in re.findall(
            r"^@step\(version=(\d+)\)\ndef (\w+)\(", file.read_text(), re.MULTILINE
        ):
            versions[f"{module}.{name}"] = int(version)
    return versions


def closure(step: str) -> set[Path]:
    """Modules and data files of the package that a step reads, directly or not."""
    start = PACKAGE / (step.rpartition(".")[0].replace(".", "/") + ".py")
    reached, new = {start}, {start}
    while new:
        new = {file for module in new for file in _reads(module)} - reached
        reached |= new
    return reached


@cache
def _reads(module: Path) -> frozenset[Path]:
    if module.suffix != ".py":
        return frozenset()
    files: set[Path] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif _text(node).startswith("clipshift."):  # a program that the step starts
            names = [_text(node)]
        elif _text(node).startswith("data/"):
            files.update(f for f in (PACKAGE / "data").rglob("*") if _named(f, _text(node)))
        for name in names:
            path = PACKAGE.parent / name.replace(".", "/")
            files.update(f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists())
        for name in _packages(node):
            files.update((PACKAGE.parent / name.replace(".", "/")).glob("*.py"))
    return frozenset(f for f in files if not _neutral(f))


def _packages(node: ast.AST) -> list[str]:
    """Packages that an import takes whole, or something from that is no module of theirs."""
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return []
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    are_modules = [_is_module(name) for name in names]
    folders = [name for name in names if (PACKAGE.parent / name.replace(".", "/")).is_dir()]
    return folders + [node.module] * (not all(are_modules))


def _is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def _text(node: ast.AST) -> str:
    value = getattr(node, "value", None)
    return value if isinstance(node, ast.Constant) and isinstance(value, str) else ""


def _named(file: Path, start: str) -> bool:
    return file.is_file() and str(file.relative_to(PACKAGE)).startswith(start)


def _neutral(file: Path) -> bool:
    return file.is_relative_to(PACKAGE) and str(file.relative_to(PACKAGE)).startswith(NEUTRAL)


def digest(step: str) -> str:
    """A hash of the code of a step, blind to comments, docstrings, layout and versions."""
    total = hashlib.sha256()
    for file in sorted(closure(step)):
        total.update(_content(file).encode())
    return total.hexdigest()


@cache
def _content(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return code(text) if file.suffix == ".py" else text


def code(text: str) -> str:
    """The syntax tree of a module, without what no output depends on."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del body[0]
    return _dump(tree)


def _dump(node: object) -> str:
    """As `ast.dump`, without empty fields: which of them are printed differs between Pythons."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step":
        return "step"
    fields = [f"{k}={_dump(v)}" for k, v in ast.iter_fields(node) if v is not None and v != []]
    return f"{type(node).__name__}({', '.join(fields)})"
