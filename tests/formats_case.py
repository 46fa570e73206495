"""Small data sets in every format, as the tools of the field write them."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.files import sha256_bytes
from clipshift.datasets.formats import open_dataset
from clipshift.datasets.formats.base import Dataset
from clipshift.datasets.records import Record, Rejected
from tests.conftest import photo


def tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return path


def files(folder: Path, *names: str) -> Path:
    """An image at every name; they differ."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(seed))
    return folder


def read(
    path: Path, name: str | None = None, **columns: str
) -> tuple[Dataset, list[Record], dict[str, str]]:
    """A data set, its records, and the reasons of what it rejects by key and place's end."""
    data = open_dataset(path, name, columns)
    found = [f for _, f in data.all_records()]
    rejected = {
        f.key or f.place.rpartition("/")[2]: f.reason for f in found if isinstance(f, Rejected)
    }
    return data, [f for f in found if isinstance(f, Record)], rejected


def img2dataset(
    folder: Path,
    numbers: dict[int, int],
    width: int = 5,
    digest: str | None = "sha256",
    form: str = "webdataset",
    failed: int = 0,
    **columns: Any,
) -> Path:
    """What img2dataset leaves: {number of a shard: samples}; `failed` rows follow in each table."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, count in numbers.items():
        rows, members = [], []
        name = f"{n:0{width}d}"
        for i in range(count + failed):
            key, data = f"{name}{i:04d}", photo(100 * n + i)
            row = {"url": f"http://x/{n}-{i}.jpg", "caption": f"caption {n} {i}", "key": key}
            row |= {"status": "success", "error_message": None, "width": 16, "height": 16}
            row |= {digest: sha256_bytes(b"raw" + data)} if digest else {}
            row |= {column: value(n, i) for column, value in columns.items()}
            if i >= count:
                row |= {"status": "failed_to_download", "error_message": "HTTP Error 404"}
            elif form == "parquet":
                row["jpg"] = data
            else:
                members += [
                    (f"{key}.jpg", data),
                    (f"{key}.txt", row["caption"].encode()),
                    (f"{key}.json", json.dumps(row).encode()),
                ]
            rows.append(row)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        (folder / f"{name}_stats.json").write_text("{}")
        if form == "webdataset":
            tar(folder / f"{name}.tar", members)
        for member, data in members if form == "files" else []:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / member).write_bytes(data)
    return folder
