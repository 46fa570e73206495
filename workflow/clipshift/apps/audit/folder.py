"""The output folder of `clipshift audit`: what its files are, whose they are, whether it is done.

`OUT/manifest.json` is written last: the identity of what the outputs depend on, and their hashes.
"""

import sys
from pathlib import Path
from typing import Any

from clipshift.apps.audit import page, tables
from clipshift.apps.audit.embed import fingerprint
from clipshift.apps.audit.hashes import Hashes, identity
from clipshift.apps.audit.inputs import content
from clipshift.apps.audit.options import Options
from clipshift.core.errors import ClipshiftError
from clipshift.core.file_identity import differing
from clipshift.core.output_folder import MANIFEST, read_record, write_record
from clipshift.core.step import version_of
from clipshift.datasets.any_images import open_images
from clipshift.similarity.embeddings import list_shards, shard_paths

# Of the step `audit`: results of another one are not taken up again.
VERSION = version_of("apps.audit.run.audit")
KIND = "audit"
# In `out/work`: names of files that a run which has not ended may have written.
WRITING = "writing.json"
FIXED = ("nearest.parquet", "density.parquet", "remove.parquet", "summary.json", "rejected.csv")


def ours_of(options: Options, before: dict[str, Any] | None) -> set[str]:
    """Files of the run before, and those that a killed one may have written.

    Raises:
        ClipshiftError: a file has the name of one of ours, and no audit wrote it.
    """
    work = options.out / "work"
    killed = read_record(work / WRITING, "files") or {"files": []}
    ours = {*killed["files"], *(before or {"files": {}})["files"]}
    if before is None and ((options.out / MANIFEST).exists() or work.exists()):
        return ours.union(names_of(options))  # damaged, killed, or of an earlier version
    for name in names_of(options):
        if name not in ours and (options.out / name).exists():
            raise ClipshiftError(
                f"{options.out / name} was not written by `clipshift audit`; name another --out, "
                "or move it"
            )
    return ours


def begin(options: Options, ours: set[str]) -> None:
    """Note which files may be written from now on, so that a killed run's are known."""
    path = options.out / "work" / WRITING
    write_record(path, {"files": sorted(ours.union(names_of(options)))})


def files_read(options: Options, folders: dict[str, Path]) -> list[Path]:
    """Files that are read after the images are embedded."""
    tables = [options.predictions] if options.predictions else []
    shards = (p for f in folders.values() for s in list_shards(f) for p in shard_paths(f, s))
    return [*tables, *shards]


def image_fingerprints(options: Options) -> dict[str, str]:
    """Fingerprints of the images by side."""
    return {
        side: fingerprint(open_images(where.images), {})
        for side, where in options.sides.items()
        if where.images is not None
    }


def check_images(options: Options, before: dict[str, str]) -> None:
    for side, name in image_fingerprints(options).items():
        if name != before[side]:
            raise ClipshiftError(
                f"{options.sides[side].images}: images changed while they were read; nothing that "
                "depends on them was kept. Run again when nothing writes there any more"
            )


def identity_of(
    options: Options, folders: dict[str, Path], images: dict[str, str], hashes: Hashes
) -> str:
    """What the outputs depend on: contents, options, code; empty where a side is not embedded."""
    if not all((folder / "img_emb").is_dir() for folder in folders.values()):
        return ""
    out = options.out
    return identity(
        {
            "contents": {s: content(f, hashes)["identity"] for s, f in folders.items()},
            "folders": {
                s: f.relative_to(out).as_posix() if out in f.parents else str(f)
                for s, f in folders.items()
            },
            "pictures": images,
            "predictions": hashes.of(options.predictions) if options.predictions else None,
            "options": options.outcome(),
            "encoder": options.embedder,
            "version": VERSION,
        }
    )


def is_done(options: Options, before: dict[str, Any], name: str) -> bool:
    """Whether the outputs of exactly this audit are there, unchanged; says what is damaged."""
    if before.get("identity") != name:
        return False
    damaged = list(differing(options.out, before["files"]))
    for path in damaged:
        print(f"{path} is damaged or missing; made again", file=sys.stderr)
    if damaged:
        print(f"{len(damaged)} damaged files are made again", file=sys.stderr)
    return not damaged


def outputs_of(summary: dict[str, Any]) -> list[str]:
    return [*FIXED, *(entry["file"] for entry in summary["remove"])]


def names_of(options: Options) -> list[str]:
    """Files that an audit with these options writes."""
    lists = [name for name, _, _ in lists_of(options, "reference" in options.sides)]
    return [*FIXED, page.NAME, *lists]


def lists_of(options: Options, reference: bool) -> list[tuple[str, str, float | None]]:
    """Name, column of remove.parquet and threshold of each list."""
    lists: list[tuple[str, str, float | None]]
    lists = [(f"remove_{t:g}.txt", tables.column_of(t), t) for t in options.thresholds]
    lists.append(("remove.txt", tables.column_of(options.main), options.main))
    if reference:
        lists.append(("remove_closer_than_reference.txt", "closer_than_reference", None))
    return lists
