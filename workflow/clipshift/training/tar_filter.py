"""Read the user's own tars in training, and let only the kept samples pass.

`python -m clipshift.training.tar_filter SETTINGS.json TAR` writes a tar with the kept samples of
TAR to standard output, in its order: what webdataset reads for a shard called `pipe:COMMAND`.
`prepare` writes, once per training, which keys those are: one sorted list per tar, so a process
holds those of one. What passes is what `trainable` makes of it.
"""

import argparse
import io
import re
import shlex
import sys
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core.brace_ranges import RANGE
from clipshift.core.database import database, parquet
from clipshift.core.errors import ClipshiftError, run
from clipshift.core.files import read_json, read_parquet, write_json, write_npy, write_parquet
from clipshift.datasets.images import SUFFIXES, WHITE, Colour, Undecodable, colour, portable
from clipshift.datasets.tars import Sample, read_tar


def prepare(
    split: Path, tables: Sequence[Path], tars: Sequence[Path], out: Path,
    without: Collection[str] = (),
) -> int:  # fmt: skip
    """Write the kept keys of each tar of a pool, and of the reference set.

    Args:
        tables: sample tables of the pool's shards, with their counts (rows of each tar) beside.
        tars: of the pool.
        out: gets `pool/{tar}.npy` and `reference.npy`, sorted keys; where the split's table has
            captions, `pool/{tar}.parquet`, too: `key, caption` of the same keys.
        without: kept samples that are left out all the same.

    Returns:
        the number of samples kept, pool and reference together.

    Raises:
        ClipshiftError: a kept sample is in no table, or its tar is not there.
    """
    there = {tar.stem for tar in tars}
    found = 0
    captioned = "caption" in pq.read_schema(split).names
    with database() as db:
        source = f"FROM {parquet([split])} WHERE kept"
        if without:
            db.execute("CREATE TABLE without AS SELECT unnest($1) AS key", [sorted(without)])
            source += " AND key NOT IN (FROM without)"
        total = _one(db, f"SELECT count(*) {source}")
        reference = _keys(db, f"SELECT key {source} AND reason = 'reference' ORDER BY key")
        write_npy(out / "reference.npy", reference)
        for table in tables:
            named = read_parquet(table, ["key"])["key"]
            keys = np.array(named.to_pylist(), dtype=np.str_)
            ends = pc.min_max(named).as_py()
            # The split is in the order of keys: little of it is read for each table.
            within = f"SELECT key {source} AND key BETWEEN ? AND ?"
            kept = np.isin(keys, _keys(db, within, [ends["min"], ends["max"]]))
            start = 0
            for name, rows in _rows_of_tars(table).items():
                mine = np.sort(keys[start : start + rows][kept[start : start + rows]])
                start += rows
                found += len(mine)
                if len(mine) and name not in there:
                    raise ClipshiftError(f"{split} keeps samples of {name}.tar, which is not there")
                write_npy(out / "pool" / f"{name}.npy", mine)
                if captioned and len(mine):
                    ends = [mine[0], mine[-1]]
                    texts = f"SELECT key, caption {source} AND key BETWEEN ? AND ? ORDER BY key"
                    near: Any = db.execute(texts, list(map(str, ends))).to_arrow_table()
                    here = pc.is_in(near["key"], pa.array(mine.tolist()))
                    write_parquet(out / "pool" / f"{name}.parquet", near.filter(here))
    if found + len(reference) != total:
        raise ClipshiftError(
            f"{split} keeps {total} samples, of which {total - found - len(reference)} are in none "
            f"of the {len(tables)} tables of the pool; delete the split and run again"
        )
    return total


def _rows_of_tars(table: Path) -> dict[str, int]:
    """Name -> samples of the tars behind a table: several of a folder pool's, else the shard's."""
    shard = read_json(table.with_suffix(".json"))["shard"]
    return dict(shard.get("tars") or {table.stem: shard["samples"]})


def _keys(db: duckdb.DuckDBPyConnection, query: str, values: Sequence[str] = ()) -> np.ndarray:
    return np.array(db.execute(query, list(values)).fetchnumpy()["key"], dtype=np.str_)


def _one(db: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(db.execute(query).fetchall()[0][0])


def shard_url(settings: Path, tar: str) -> str:
    """The name of a shard that is read through this module; `tar` may end in a range of numbers.

    The shell and webdataset, which splits at `::` and spreads braces, leave everything else.
    """
    at = found.start() if (found := RANGE.search(tar)) else len(tar)
    words = [sys.executable, "-m", "clipshift.training.tar_filter", str(settings.resolve())]
    return f"pipe:{shell_word(*words, '--', tar[:at])}{tar[at:]}"


def shell_word(*words: str) -> str:
    """Words for a shell line that webdataset reads as a list of shards.

    >>> shell_word("a b", "c::{d}")
    "'a b' 'c:'':\\\\{d\\\\}'"
    """
    line = shlex.join(words).replace("::", ":'':")
    return re.sub(r"[\\{}]", r"\\\g<0>", line)


def trainable(sample: Sample, background: Colour = WHITE) -> Sample:
    """A sample as open_clip's trainer reads it: its first image, which any decoder sees as
    `images.decode` does, under a suffix that the trainer knows; and what is no image.

    Raises:
        Undecodable: the image, or there is none.
    """
    first = sample.image_suffix
    parts: dict[str, bytes] = {}
    for suffix, data in sample.parts.items():
        if suffix == first:
            name, stored = portable(data, suffix, background)
            parts[name] = stored
        elif suffix.rpartition(".")[2] not in SUFFIXES:
            parts[suffix] = data
    return Sample(sample.key, parts)


def undecodable(folder: Path) -> dict[str, str]:
    """What `kept_samples` left out: key -> reason."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.json")):
        found |= read_json(path)
    return dict(sorted(found.items()))


def kept_samples(tar: Path, settings: dict[str, Any]) -> Iterator[Sample]:
    """The kept samples of a tar, as `trainable` makes them, labelled ones with their template
    caption. Undecodable ones are left out, and listed in a file of the tar's name.

    Args:
        settings: `keep`, a list of keys or a folder with one per tar; `undecodable`, the folder of
            those lists; maybe `background`; for a labelled set `classnames` and `template`, too.
    """
    listed = Path(settings["keep"])
    listed = listed / f"{tar.stem}.npy" if listed.is_dir() else listed
    keep = np.load(listed) if listed.exists() else np.empty(0, np.str_)
    if not len(keep):
        return
    names = settings.get("classnames")
    texts = listed.with_suffix(".parquet")
    captions = read_parquet(texts, ["key", "caption"])["caption"] if texts.exists() else None
    background = colour(settings.get("background", "#ffffff"))
    left_out: dict[str, str] = {}
    for sample in read_tar(tar):
        at = int(np.searchsorted(keep, sample.key))
        if at == len(keep) or keep[at] != sample.key:
            continue
        try:
            parts = trainable(sample, background).parts
        except Undecodable as reason:
            left_out[sample.key] = str(reason)
            # At once: a reader may have enough before the tar ends.
            write_json(Path(settings["undecodable"]) / f"{tar.stem}.json", left_out)
            continue
        if captions is not None:
            parts["txt"] = captions[at].as_py().encode()
        elif names:
            text = settings["template"].replace("{class}", names[int(parts.pop("cls"))])
            parts["txt"] = text.encode()
        yield Sample(sample.key, parts)


def stream(samples: Iterator[Sample], out: BinaryIO) -> None:
    """Write samples as a tar; of none, an empty one."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            for suffix, data in sample.parts.items():
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def write_settings(
    path: Path, keep: Path, classnames: Path | None = None, template: str = "",
    background: str = "#ffffff",
) -> None:  # fmt: skip
    """Write the settings of `kept_samples`; class names only for a set that has no captions.

    What it leaves out is listed in `undecodable/` beside them, in a folder of the settings' name.
    """
    lists = path.parent / "undecodable" / path.stem
    settings: dict[str, Any] = {"keep": str(keep.resolve()), "undecodable": str(lists.resolve())}
    settings["background"] = background
    if classnames:
        names = classnames.read_text().splitlines()
        settings |= {"classnames": names, "template": template}
    write_json(path, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path)
    parser.add_argument("tar", type=Path)
    args = parser.parse_args()
    stream(kept_samples(args.tar, read_json(args.settings)), sys.stdout.buffer)


if __name__ == "__main__":
    run(main)
