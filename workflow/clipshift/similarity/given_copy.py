"""The embedding folder of what is given (`similarity.given`), whose copy is checked.

A copy that is made of other formats lies in the output folder and is used by every later run. Its
hashes are kept beside it; one that is damaged is made again.
"""

import shutil
import sys
from pathlib import Path

from clipshift.core.file_identity import Unchanged, differing, identities
from clipshift.core.output_folder import read_record, write_record
from clipshift.similarity.given import Given, Made, Names, as_folder

FILES = "files.json"


def checked_folder(given: Given, out: Path, normalise: bool, names: Names | None) -> Made:
    """`as_folder`, with a copy in `out` that is whole and of unchanged files.

    Raises:
        ClipshiftError: as `as_folder`; or a file changed while it was copied.
    """
    record = out / FILES
    if record.exists():
        damaged = list(differing(out, read_record(record) or {FILES: None}))
        if damaged:
            print(f"{damaged[0]} is damaged or missing; {out} is made again", file=sys.stderr)
            shutil.rmtree(out)
    unchanged = Unchanged(_files(given))
    made = as_folder(given, out, normalise, names)
    if made.folder == out and not record.exists():
        try:
            unchanged.check()
        except BaseException:
            shutil.rmtree(out)
            raise
        write_record(record, identities(out, copied(out)))
    return made


def copied(out: Path) -> list[Path]:
    """The files of a copy, without the record of them."""
    return sorted(p for p in out.rglob("*") if p.is_file() and p.name != FILES)


def _files(given: Given) -> list[Path]:
    if isinstance(given, tuple):
        return []
    paths = [Path(word) for word in str(given).split("::")]
    return [f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()]
