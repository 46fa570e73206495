"""Small folders as users have them: img2dataset's output, and sets in CLIP_benchmark's layout."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipshift.core.files import sha256_bytes, write_json, write_text
from clipshift.datasets.shards import write_tar
from clipshift.datasets.tars import Sample
from tests.conftest import photo

# img2dataset's words for what failed.
FAILED = ("failed_to_download", "failed_to_resize")


def write_pool(
    folder: Path, tars: Mapping[int, int], failed: int = 1, drop: Sequence[str] = (),
    images: Sequence[bytes] = (),
) -> Path:  # fmt: skip
    """img2dataset's folder.

    Args:
        tars: number of a tar -> its samples.
        failed: failed rows after the samples of each tar.
        drop: columns left out of the tables.
        images: to take, one after the other; else random blocks of colour.
    """
    given = list(images)
    for number, count in tars.items():
        rows: list[dict[str, Any]] = []
        samples = []
        for i in range(count + failed):
            key = f"{number:05d}{i:04d}"
            row = {"key": key, "url": f"http://x/{key}.jpg", "caption": f"an image, {key}"}
            row |= {"error_message": None, "width": 16, "height": 16, "sha256": None}
            if i < count:
                image = given.pop() if given else photo(100 * number + i)
                row |= {"status": "success", "sha256": sha256_bytes(image)}
                parts = {"jpg": image, "txt": row["caption"].encode(), "json": b"{}"}
                samples.append(Sample(key, parts))
            else:
                row |= {"status": FAILED[i % 2], "error_message": "404"}
            rows.append({name: value for name, value in row.items() if name not in drop})
        write_tar(folder / f"{number:05d}.tar", samples)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number:05d}.parquet")
        write_json(folder / f"{number:05d}_stats.json", {"count": count + failed})
    return folder


def write_set(
    folder: Path, labels: Sequence[int | str], split: str = "test", tars: int = 2, seed: int = 0,
    names: Sequence[str] = ("cat", "dog"),
) -> Path:  # fmt: skip
    """A set in CLIP_benchmark's layout: sample i has the label `labels[i]`."""
    samples = [
        Sample(f"{split}{seed}s{i:04d}", {"jpg": photo(seed + i), "cls": str(label).encode()})
        for i, label in enumerate(labels)
    ]
    for tar in range(tars):
        write_tar(folder / split / f"{tar}.tar", samples[tar::tars])
    write_text(folder / split / "nshards.txt", f"{tars}\n")
    write_text(folder / "classnames.txt", "".join(f"{name}\n" for name in names))
    return folder


def write_classes(folder: Path, images: int) -> None:
    """Photographs `{class}/{number}.jpg`, in turn of the classes a and b."""
    for i in range(images):
        path = folder / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(i))
