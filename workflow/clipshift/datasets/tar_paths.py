"""Words that name tars: of the project, or of a folder of the user's, which may have many.

A word is the path of one tar, a numbered range `FOLDER/{00000..00092}.tar`, a folder in
CLIP_benchmark's layout, or a manifest that names the tars beside it (`clipshift.splits.reshard`).
One that begins with `data:` lies below the configured folder `data`, which is no part of the word,
so that a step does not depend on where the data happens to be. One that begins with `s3://` names
objects that Snakemake has fetched.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from clipshift.core.brace_ranges import spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json
from clipshift.core.sniff import regular_file
from clipshift.datasets.tars import Sample, read_tar
from clipshift.study.config.folders import DATA_VARIABLE, EXTERNAL, STORAGE_VARIABLE, STORED


def data_folder() -> Path:
    """Where paths that begin with `data:` lie: the key `data`, which the workflow hands on."""
    return Path(os.environ.get(DATA_VARIABLE, "data"))


def located(word: str, data: Path) -> Path:
    """The path of a word; a range in it is left as it is."""
    if word.startswith(STORED):
        fetched = Path(os.environ.get(STORAGE_VARIABLE, ".snakemake/storage/s3"))
        return fetched / word.removeprefix(STORED)
    return data / word.removeprefix(EXTERNAL) if word.startswith(EXTERNAL) else Path(word)


def tars_of(words: Iterable[str], data: Path) -> list[Path]:
    """The tars that some words name, in order. Numbers of a range may be missing.

    Raises:
        ClipshiftError: a range without any tar, or a folder that lacks one.
    """
    return [tar for word in words for tar in _tars(located(word, data))]


def every_tar(word: str, data: Path) -> list[Path]:
    """The tars of a pool's word in order, those of a range that are missing, too."""
    path = located(word, data)
    if path.suffix == ".json":
        return _listed(path)
    return [path] if path.exists() else spread(str(path))  # whatever its name holds


def _listed(manifest: Path) -> list[Path]:
    tars = [manifest.with_name(f"{name}.tar") for name in read_json(manifest)["tars"]]
    if missing := [tar.name for tar in tars if not tar.exists()]:
        raise ClipshiftError(
            f"{manifest} names {len(tars)} tars, of which {len(missing)} are missing, the first "
            f"{missing[0]}; delete the folder {manifest.parent} and run again"
        )
    return tars


def _tars(path: Path) -> list[Path]:
    if path.suffix == ".json":
        return _listed(path)
    if path.suffix != ".tar":
        return set_tars(path)
    if path.exists():  # whatever its name holds
        return [path]
    every = spread(str(path))
    if len(every) == 1:
        return every
    there = [tar for tar in every if tar.exists()]
    if not there:
        raise ClipshiftError(f"there is none of the tars {path}")
    return there


def set_tars(folder: Path) -> list[Path]:
    """The tars of a split of a set in CLIP_benchmark's layout.

    Raises:
        ClipshiftError: no readable `nshards.txt`, or a tar is missing.
    """
    count = folder / "nshards.txt"
    if not count.exists():
        raise ClipshiftError(f"{folder} has no nshards.txt, so it is no set of CLIP_benchmark's")
    text = regular_file(count).read_bytes().decode("utf-8", "replace").strip()
    if not re.fullmatch("[1-9][0-9]{,5}", text):
        raise ClipshiftError(f"{count}: expected the number of tars, found {text[:40]!r}")
    tars = [folder / f"{i}.tar" for i in range(int(text))]
    if missing := [tar.name for tar in tars if not tar.exists()]:
        raise ClipshiftError(
            f"{folder}: nshards.txt says {text} tars, but {len(missing)} are missing, the first "
            f"{missing[0]}"
        )
    return tars


def read_tars(tars: Path | Sequence[Path]) -> Iterator[Sample]:
    """Samples of some tars, one tar after the other (see `read_tar`)."""
    for tar in [tars] if isinstance(tars, Path) else tars:
        yield from read_tar(tar)
