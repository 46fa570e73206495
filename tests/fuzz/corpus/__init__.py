"""Mutants that failed once: a small file each, tried by every run.

A file `READER~MUTANT~SEED.json` holds what differs from the reader's valid input: path -> content
in base64, null (gone), or `"fifo"`, `"folder"`, `["link", TARGET]`.
"""

import base64
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MAX_BYTES = 20_000


def entries() -> list[Path]:
    return sorted(FOLDER.glob("*.json"))


def reader_of(entry: Path) -> str:
    return entry.name.partition("~")[0]


def contents(folder: Path) -> dict[str, Any]:
    """Path -> what lies there."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "surrogateescape")
        if stat.S_ISLNK(mode):
            found[name] = ["link", str(path.readlink())]
        elif stat.S_ISFIFO(mode):
            found[name] = "fifo"
        elif stat.S_ISDIR(mode):
            found[name] = "folder"
        else:
            found[name] = {"bytes": base64.b64encode(path.read_bytes()).decode()}
    return found


def keep(base: Path, mutated: Path, name: str) -> Path | None:
    """Add a mutant; None: it is too large, or there already."""
    before, after = contents(base), contents(mutated)
    changes = {path: what for path, what in after.items() if before.get(path) != what}
    changes |= dict.fromkeys(before.keys() - after.keys())
    text = json.dumps(changes, indent=1, sort_keys=True) + "\n"
    path = FOLDER / f"{name}.json"
    if len(text) > MAX_BYTES or path.exists():
        return None
    path.write_text(text)
    return path


def restore(entry: Path, base: Path, folder: Path) -> str:
    """Write the input of an entry; the name of a file that differs."""
    shutil.copytree(base, folder)
    changes = json.loads(entry.read_text())
    for name, what in changes.items():
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        match what:
            case None:
                continue
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case ["link", target]:
                path.symlink_to(target)
            case {"bytes": data}:
                path.write_bytes(base64.b64decode(data))
    return Path(sorted(changes)[-1]).name
