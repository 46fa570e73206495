"""The container recipe, as far as it can be followed without a container engine.

Its files are copied as it copies them, and installed from there as it installs them.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RECIPE = ROOT / "envs/clipshift.def"
INSTALLED = Path("opt/clipshift")


@pytest.fixture(scope="module")
def sections() -> dict[str, list[str]]:
    """Section -> its lines; the header's is ''."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in RECIPE.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].split()[0]
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found


@pytest.fixture(scope="module")
def image(sections: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what %files names and git knows, where %files puts it."""
    folder = tmp_path_factory.mktemp("image")
    known = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for line in sections["files"]:
        source, target = line.split()
        names = [n for n in known if n == source or n.startswith(f"{source}/")]
        assert names, f"{source} is no file of the project"
        for name in names:
            place = folder / target.lstrip("/") / Path(name).relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, place)
    return folder


def test_the_base_has_the_python_of_the_locks(sections: dict[str, list[str]]) -> None:
    base = next(line for line in sections[""] if line.startswith("From:"))
    locked = re.search(r"--python-version (\S+)", (ROOT / "Makefile").read_text())
    assert locked and f"python:{locked[1]}-" in base


def test_what_is_installed_is_locked_and_copied(
    sections: dict[str, list[str]], image: Path
) -> None:
    (lock,) = re.findall(r"--require-hashes --no-deps -r (\S+)", "\n".join(sections["post"]))
    copied = image / lock.lstrip("/")
    assert copied.read_bytes() == (ROOT / "envs" / copied.name).read_bytes()


def test_the_package_installs_from_the_copied_files_alone(
    sections: dict[str, list[str]], image: Path, tmp_path: Path
) -> None:
    command = next(line for line in sections["post"] if "--editable" in line).split()
    assert command[:2] == ["pip", "install"] and command[-1] == f"/{INSTALLED}"
    target = tmp_path / "site"
    words = [w for w in command[1:-1] if w != "--editable"]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, "--quiet", "--target", target, image / INSTALLED],
        check=True,
    )
    code = "import clipshift; print(clipshift.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(target)}, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(found.strip()).is_relative_to(target)
    carried = {p.relative_to(target) for p in (target / "clipshift").rglob("*") if p.is_file()}
    ours = ROOT / "workflow"
    expected = {
        p.relative_to(ours)
        for p in (ours / "clipshift").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert {p for p in carried if "__pycache__" not in p.parts} == expected
