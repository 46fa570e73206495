"""Rooms of the package import only rooms below them."""

import ast
from pathlib import Path

from clipshift.core.step import PACKAGE

# From the ground up.
LAYERS = ["core", "stats", "study", "datasets", "similarity", "splits", "training", "evaluation",
          "classifiers", "figures", "apps"]  # fmt: skip


def rooms_imported(module: Path) -> set[str]:
    """Rooms that a module imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "clipshift":
            names |= {f"clipshift.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    return {p[1] for p in parts if p[0] == "clipshift" and len(p) > 1 and p[1] in LAYERS}


def test_no_room_imports_a_room_above() -> None:
    upwards = [
        f"{module.relative_to(PACKAGE)} imports {room}"
        for layer, own in enumerate(LAYERS)
        for module in sorted((PACKAGE / own).rglob("*.py"))
        for room in rooms_imported(module)
        if LAYERS.index(room) > layer
    ]
    assert upwards == []


def test_the_root_holds_rooms_only() -> None:
    assert [f.name for f in PACKAGE.glob("*.py")] == ["__init__.py"]
    assert {f.parent.name for f in PACKAGE.glob("*/__init__.py")} == set(LAYERS)
