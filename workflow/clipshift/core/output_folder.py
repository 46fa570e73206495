"""Output folders as transactions: one writer at a time, records that prove themselves, a manifest.

`locked` keeps a second run out. A record is a JSON file with a digest of itself, so a damaged one
is known. `manifest.json` lists all files of a finished run with their hashes and is written last.
"""

import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clipshift.core.errors import ClipshiftError
from clipshift.core.files import json_text, sha256_json, write_json
from clipshift.core.locks import Held, exclusive

LOCK = ".lock"
MANIFEST = "manifest.json"
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST,
            errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT}  # fmt: skip


@contextmanager
def locked(folder: Path, reading: bool = False) -> Iterator[None]:
    """Hold the lock of an output folder, which is made where it is missing.

    The lock ends with the process, however that ends. Where the file system has no locks, it is
    said, and the run goes on.

    Args:
        reading: nothing will be written, so a folder that cannot be written needs no lock.

    Raises:
        ClipshiftError: another run holds it (says which), or the folder cannot be written, then or
            later in the block.
    """
    if reading and not folder.is_dir():
        raise ClipshiftError(
            f"{folder} is missing, or no folder; give the folder of a finished run"
        )
    if folder.exists() and not folder.is_dir():
        raise ClipshiftError(f"{folder} cannot be written: it is no folder; name another --out")
    with _explained(folder), ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_alone(folder))
        except OSError as error:
            if not (reading and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)):
                raise
        yield


def _alone(folder: Path) -> AbstractContextManager[Held]:
    def busy(holder: str) -> None:
        raise ClipshiftError(
            f"{folder} is in use by another run ({holder}). Wait for it, end it, or name another "
            "--out"
        )

    def without(why: str) -> None:
        print(
            f"{folder}: its file system has no locks ({why}); make sure that no other run writes "
            "there",
            file=sys.stderr,
        )

    return exclusive(folder / LOCK, busy, without)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a refusal of the file system below `folder` into an error for people."""
    try:
        yield
    except OSError as error:
        here = folder.absolute()
        given = [n for n in (error.filename2, error.filename) if isinstance(n, (str, os.PathLike))]
        names = [Path(n).absolute() for n in given]
        ours = [n for n in names if n == here or here in n.parents or n in here.parents]
        if error.errno not in _REFUSED or not ours:
            raise
        raise ClipshiftError(
            f"{ours[0]} cannot be written: {error.strerror}. Mend that, or name another --out"
        ) from error


def refuse_inside(out: Path, inputs: Iterable[Path]) -> None:
    """Raise `ClipshiftError` where an output folder is an input, or lies in one: the next run would
    read what this one writes."""
    here = Path(os.path.realpath(out))
    for given in inputs:
        if here.is_relative_to(os.path.realpath(str(given).partition("::")[0])):
            raise ClipshiftError(f"--out {out} lies in {given}, an input; name another --out")


def write_record(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """Write a JSON object with its digest; returns it as written."""
    # As it is read: tuples are lists, keys are text.
    plain = json.loads(json.dumps(dict(value)))
    record: dict[str, Any] = plain | {"digest": sha256_json(plain)}
    write_json(path, record)
    return record


def read_record(path: Path, *keys: str) -> dict[str, Any] | None:
    """What `write_record` wrote, without the digest; None where it is missing, damaged, or another
    record, which lacks some of `keys`."""
    try:
        text = path.read_bytes().decode() if path.is_file() else "null"
        value = json.loads(text)
        # Each byte counts, also one that changes no value.
        if isinstance(value, dict) and text == json_text(value):
            said = value.pop("digest", None)
            return value if said == sha256_json(value) and {*keys} <= {*value} else None
    except (OSError, ValueError, RecursionError):
        pass
    return None


def read_manifest(folder: Path, kind: str) -> dict[str, Any] | None:
    """The manifest of a finished run; None where there is none, or it is damaged (said).

    Raises:
        ClipshiftError: the folder is that of another kind of run.
    """
    path = folder / MANIFEST
    found = read_record(path, "kind", "files")
    if found is None:
        if path.exists():
            print(f"{path} is damaged; written again", file=sys.stderr)
        return None
    if found["kind"] != kind:
        raise ClipshiftError(
            f"{folder} holds the output of `clipshift {found['kind']}`; name another --out"
        )
    return found


def remove_left(folder: Path, before: Iterable[str], now: Iterable[str], why: str) -> None:
    """Remove files of an earlier run that are none of this one, each with a line."""
    for name in sorted({*before} - {*now}):
        path = folder / name
        # Names are from a file: nothing outside the folder is touched.
        if path.is_file() and folder.resolve() in path.resolve().parents:
            path.unlink()
            print(f"{path} was removed: {why}", file=sys.stderr)
