"""`clipshift draw`: the images of a split, from img2dataset's tars into tars of their own.

Only the tars that hold some are opened, and of them only headers and the wanted samples are read.
What is written is img2dataset's layout, so that the images can be labelled, and be a pool.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipshift.core import columns
from clipshift.core.device import available_cores
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import read_json, read_parquet, write_json, write_parquet
from clipshift.datasets.archives import open_tar
from clipshift.datasets.external_pool import SUCCESS, columns_of
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Member, Sample, members

PER_TAR = 10_000
# Tars whose samples are held at once.
AHEAD = 64
Drawn = tuple[Sample, pa.Table]  # with its row


def draw(split: Path, images: Path, out: Path, per_tar: int = PER_TAR) -> int:
    """Write the samples that a split keeps of a pool: tars, tables and stats.

    Args:
        split: `results/splits/NAME.parquet`, with its exports beside it.
        images: the folder of the pool's tars.

    Returns:
        the number of samples.

    Raises:
        ClipshiftError: `out` holds something, or a kept sample is not where the split was made of.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ClipshiftError(f"{out} is there already; name another --out, or move it away")
    keys = np.load(_beside(split, ".keys.npy"), mmap_mode="r")
    sizes = {name: n for name, n in read_json(_beside(split, ".sizes.json")).items() if n}
    if (inside := sum(sizes.values())) < len(keys):
        raise ClipshiftError(
            f"{split} keeps {len(keys) - inside} samples of the reference set, too; give its "
            "recipe `reference: false`"
        )
    wanted = set(keys.tolist())
    total = 0
    samples = _samples(images, sizes, wanted)
    while some := list(islice(samples, per_tar)):
        stem = out / f"{total // per_tar:05d}"
        count = write_tar(stem.with_suffix(".tar"), (sample for sample, _ in some))
        table = pa.concat_tables([row for _, row in some], promote_options="permissive")
        write_parquet(stem.with_suffix(".parquet"), table)
        # Last: without it a tar is not finished.
        write_json(stem.with_name(f"{stem.name}_stats.json"), {"count": count, "successes": count})
        total += count
    return total


def _beside(split: Path, suffix: str) -> Path:
    if not (file := split.with_suffix(suffix)).exists():
        raise ClipshiftError(f"{file} is missing: make the split first, `clipshift run {split}`")
    return file


def _samples(images: Path, sizes: dict[str, int], wanted: set[str]) -> Iterator[Drawn]:
    """The wanted samples, in the order of the tars."""
    with ThreadPoolExecutor(available_cores()) as pool:
        tars = sorted(sizes)
        for start in range(0, len(tars), AHEAD):
            names = tars[start : start + AHEAD]
            read = pool.map(lambda name: _of_tar(images / name, wanted), names)
            for name, samples in zip(names, read, strict=True):
                if len(samples) != sizes[name]:
                    raise ClipshiftError(
                        f"{images / name} holds {len(samples)} of the {sizes[name]} samples that "
                        "the split keeps of it; it is another download than the split was made of"
                    )
                yield from samples


def _of_tar(tar: Path, wanted: set[str]) -> list[Drawn]:
    path = tar.with_suffix(".parquet")
    columns_of(path)  # checks them
    table = read_parquet(path)
    table = table.filter(pc.equal(table["status"], SUCCESS))
    keys = columns.keys(table["key"], "key", path).to_pylist()
    row_of = {key: row for row, key in enumerate(keys) if key in wanted}
    parts: dict[str, dict[str, bytes]] = {}
    with closing(open_tar(tar)) as stream:
        for member in members(tar, stream):
            if isinstance(member, Member) and member.key in row_of and not member.too_large:
                stream.seek(member.offset)
                parts.setdefault(member.key, {})[member.suffix] = stream.read(member.size)
    samples = (Sample(key, of_key) for key, of_key in parts.items())
    return [(s, table.slice(row_of[s.key], 1)) for s in samples if s.has_image]
