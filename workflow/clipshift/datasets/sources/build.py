"""Build one source: unpack its packages, read its items, render them, write one shard.

`samples.tar` and `samples.parquet` hold the samples, ordered by locator, and `manifest.json` the
counts. Nothing here depends on the study's classes or hold-out: they apply later and cost nothing.
"""

import errno
import json
import logging
import posixpath
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipshift.core.counts import StepCounts
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import sha256_bytes, write_json
from clipshift.core.step import step
from clipshift.datasets.shards import shard_entry, url_hash, write_table, write_tar
from clipshift.datasets.sources import emoji, openclipart, sidecar, table, webdataset
from clipshift.datasets.sources.base import Adapter, Item, Rejected, caption
from clipshift.datasets.sources.render import TooCostly, Undrawable, render
from clipshift.datasets.tars import Sample
from clipshift.study.config.data import Rendering, Source

LOG = logging.getLogger(__name__)

# Two members of a package at one place.
_NAMES = (FileExistsError, NotADirectoryError, IsADirectoryError)
ADAPTERS: dict[str, Adapter] = {
    "emoji": emoji.read,
    "openclipart": openclipart.read,
    "sidecar": sidecar.read,
    "table": table.read,
    "webdataset": webdataset.read,
}


@step(version=1)
def build(
    source: str, spec: Source, rendering: Rendering, packages: dict[str, Path], out: Path
) -> None:
    """Write the samples of one source, their table and their manifest.

    Args:
        source: its name.
        out: folder.

    Raises:
        ClipshiftError: two items have one key, no item becomes a sample, or the caption recipe
            names a field that an item lacks.
    """
    step_counts = StepCounts("source", source)
    rows: dict[str, dict[str, Any]] = {}
    by_digest: dict[str, str] = {}
    too_costly: dict[str, str] = {}

    def samples() -> Iterator[Sample]:
        with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
            roots = {key: unpack(file, Path(scratch) / key) for key, file in packages.items()}
            found = sorted(ADAPTERS[spec.adapter](spec, roots), key=lambda item: item.locator)
        progress = tqdm(found, desc=f"source {source}", mininterval=5)
        for item in progress:
            step_counts.came_in += 1
            try:
                sample, row = _sample(source, spec, rendering, item)
            except Undrawable as reason:
                step_counts.rejected[str(reason)] += 1
                if isinstance(reason, TooCostly):
                    too_costly[item.locator] = str(reason)
                continue
            if row["sha256"] in by_digest:
                step_counts.rejected["same image as an earlier one"] += 1
                continue
            if sample.key in rows:
                raise ClipshiftError(
                    f"source {source}: {item.locator} and {rows[sample.key]['locator']} have the "
                    f"same key {sample.key!r}"
                )
            by_digest[row["sha256"]] = sample.key
            rows[sample.key] = row
            yield sample

    count = write_tar(out / "samples.tar", samples())
    if not count:
        raise ClipshiftError(
            f"source {source}: none of {step_counts.came_in} candidates became a sample: "
            f"{dict(step_counts.rejected)}. Is `folder` right?"
        )
    step_counts.went_out = count
    write_table(out / "samples.parquet", list(rows.values()))
    manifest = {
        "account": step_counts.as_json(),
        "shard": shard_entry(out / "samples.tar", count),
        "domain": spec.domain,
        "licence": spec.licence,
        "origin": spec.origin,
    }
    if too_costly:
        manifest["too_costly"] = too_costly
    write_json(out / "manifest.json", manifest)
    LOG.info(json.dumps(manifest["account"], indent=2))


def _sample(
    name: str, spec: Any, rendering: Rendering, item: Item | Rejected
) -> tuple[Sample, dict[str, Any]]:
    if isinstance(item, Rejected):
        raise Undrawable(item.reason)
    if spec.only and not re.search(spec.only, item.locator):
        raise Undrawable("left out by `only`")
    category = "/".join(filter(None, (spec.family, item.category, item.concept)))
    if any(category == d or category.startswith(d + "/") for d in spec.drop):
        raise Undrawable("left out by `drop`")
    try:
        text = caption(spec.caption, item.fields)
    except KeyError as error:
        raise ClipshiftError(
            f"source {name}: the caption recipe names the field {error}, and {item.locator} "
            f"has only {sorted(item.fields)}"
        ) from None
    if not text:
        raise Undrawable("no caption")
    image = render(item.data, rendering)
    row = {
        "key": key_of(name, item.locator),
        "url_hash": url_hash(item.locator),
        "sha256": sha256_bytes(image),
        "caption": text,
        "source": name,
        "family": spec.family,
        "concept": item.concept,
        "category": category,
        "class_name": None,
        "held_out": False,
        "domain": spec.domain,
        "licence": spec.licence,
        "author": item.author,
        "locator": item.locator,
    }
    return Sample(row["key"], {"jpg": image, "txt": text.encode()}), row


def key_of(source: str, locator: str) -> str:
    """A readable webdataset key: source, file stem, and eight digits of the locator's hash."""
    stem = re.split(r"[/#]", locator)[-1].rsplit(".", 1)[0]
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
    return f"{source}-{slug}-{url_hash(locator)[:8]}"


def unpack(file: Path, folder: Path) -> Path:
    """Unpack an npm tarball, a Debian package or a wheel; refuses paths that leave the folder."""
    folder.mkdir(parents=True)
    with file.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(b"!<arch>"):
        done = subprocess.run(
            ["dpkg-deb", "-x", file, folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ClipshiftError(f"dpkg-deb could not unpack {file}: {done.stderr.strip()}")
    elif magic.startswith(b"PK"):
        try:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(folder)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise ClipshiftError(f"{file} is no package that can be unpacked: {error}") from error
    else:
        try:
            with tarfile.open(file) as archive:
                _extract(archive, folder)
        except (tarfile.TarError, EOFError, zlib.error, KeyError, *_NAMES) as error:
            raise ClipshiftError(f"{file} is no package that can be unpacked: {error}") from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise ClipshiftError(f"{file} is no package that can be unpacked: {error}") from error
    return folder


def _extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Extract files, folders and links that stay inside `folder`.

    tarfile's own filters are not enough: some interpreters have none, and those of others (Python
    3.11 before 3.11.13) follow chains of links out of the folder. Here no link exists before all
    files and folders do, and the target of a link goes up first and down then, never up again.
    """
    links = []
    for member in archive:
        name = posixpath.normpath(member.name)
        plain = member.isfile() or member.isdir() or member.issym() or member.islnk()
        if not plain or _leaves(name) or "\0" in name:
            raise tarfile.ExtractError(f"{member.name!r} leaves its folder or is no plain file")
        path = folder / name
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if member.issym():
            target = posixpath.join(posixpath.dirname(name), member.linkname)
            ways = (part for part in member.linkname.split("/") if part not in ("", "."))
            down = dropwhile(lambda part: part == "..", ways)
            if _leaves(posixpath.normpath(target)) or ".." in down:
                raise tarfile.ExtractError(f"the link {member.name!r} leaves its folder")
            links.append((path, member.linkname))
        elif not member.isdir():
            data = archive.extractfile(member)
            if data is None:
                raise tarfile.ExtractError(f"the link {member.name!r} is to no file")
            with path.open("wb") as out:
                shutil.copyfileobj(data, out)
    for path, target in links:
        path.symlink_to(target)


def _leaves(name: str) -> bool:
    """Whether a path, normalised, is absolute or begins above the folder."""
    return name == ".." or name.startswith(("/", "../"))
