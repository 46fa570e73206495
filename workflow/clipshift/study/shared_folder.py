"""The studies of one folder of results: no plan overwrites the files of another study unasked.

Files lie below the names of a configuration (`results/splits/{split}.parquet`), so in one folder a
name means one thing. Every run leaves the definitions of its study in `results/studies`; the next
plan of whatever study compares its own with them. Imported at parse time.
"""

import json
from collections import Counter
from pathlib import Path

from clipshift.core.errors import ClipshiftError
from clipshift.study.config.study import Config
from clipshift.study.definitions import OWN_DIGITS, Definitions, definitions

RECORDS = Path("results/studies")
# Names that a message lists.
SHOWN = 10


def check(cfg: Config, folder: Path = RECORDS) -> str:
    """What this study means otherwise than in its last run in this folder, as a text for people.

    Raises:
        ClipshiftError: what it means otherwise than another study of this folder.
    """
    current, edited = definitions(cfg), ""
    clashes: dict[Path, str] = {}
    for file in sorted(folder.glob("*.json")):
        if changed := _changes(current, _read(file)):
            if file.stem == cfg.study:
                edited = (
                    f"Study {cfg.study}, changed since its last run here: {changed}. Files under "
                    "these names are made anew where they are asked for.\n"
                )
            else:
                clashes[file] = changed
    if clashes:
        lines = [f"  study {file.stem}: {changed}" for file, changed in clashes.items()]
        raise ClipshiftError(
            f"the study {cfg.study} would overwrite files of another one in this folder, which "
            "defines these names otherwise:\n" + "\n".join(lines) + "\n"
            "Give them other names; or keep this study in a folder of its own, `snakemake "
            "--directory FOLDER ...`; or, where the other study's results are not wanted any more, "
            f"delete its record: {' '.join(map(str, clashes))}"
        )
    return edited


def save(cfg: Config, folder: Path = RECORDS) -> None:
    """Record what a study means by its names. Names that it had before keep their definitions."""
    from clipshift.core.files import write_json

    file = folder / f"{cfg.study}.json"
    kept = _read(file) if file.exists() else {}
    current = definitions(cfg)
    both = {kind: kept.get(kind, {}) | current.get(kind, {}) for kind in kept | current}
    write_json(file, {"study": cfg.study, "definitions": both})


def _read(file: Path) -> Definitions:
    try:
        recorded: Definitions = json.loads(file.read_text())["definitions"]
        recorded = {kind: dict(names) for kind, names in recorded.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ClipshiftError(
            f"{file} is no record of a study; delete it, and the study's next run writes it anew"
        ) from None
    return recorded


def _changes(current: Definitions, other: Definitions) -> str:
    """Names that mean something else: those whose own block differs, and a count of the others."""
    changed = {
        (kind, name): (digest, other[kind][name])
        for kind, names in current.items()
        for name, digest in names.items()
        if other.get(kind, {}).get(name, digest) != digest
    }
    # None has where a part of a study that was left out of its last runs comes back after an edit.
    roots = [ref for ref, (a, b) in changed.items() if a[:OWN_DIGITS] != b[:OWN_DIGITS]] or list(
        changed
    )
    text = "; ".join(
        f"{kind} {', '.join(name for k, name in roots[:SHOWN] if k == kind)}"
        for kind in dict.fromkeys(kind for kind, _ in roots[:SHOWN])
    )
    if len(roots) > SHOWN:
        text += f" and {len(roots) - SHOWN} more"
    if following := Counter(kind for kind, name in changed if (kind, name) not in roots):
        text += "; and what follows from them: "
        text += ", ".join(f"{count} {kind}" for kind, count in following.items())
    return text
