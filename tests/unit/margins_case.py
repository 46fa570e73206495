"""A small run of `clipshift margins`: its inputs, and its files changed with hashes that fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.core.file_identity import file_identity
from clipshift.core.files import read_parquet, write_parquet
from clipshift.core.output_folder import read_record, write_record
from clipshift.similarity.embeddings import shard_paths
from tests.unit.test_engine import clip_like

SHARDS = ("0", "1", "10")


def write(folder: Path, shard: str, vectors: Any, keys: list[str] | None = None) -> Path:
    """One shard in clip-retrieval's layout, unchecked: also what must be refused."""
    image, table = shard_paths(folder, shard)
    image.parent.mkdir(parents=True, exist_ok=True)
    np.save(image, vectors)
    names = [f"{folder.name}-{shard}-{i:04d}" for i in range(len(vectors))]
    write_parquet(table, pa.table({"image_path": pa.array(keys or names, pa.string())}))
    return folder


def inputs(root: Path, dtype: Any = np.float16) -> dict[str, Any]:
    """Arguments of `margins`: three shards, two test sets, a reference set."""

    def rows(n: int, seed: int) -> np.ndarray:
        found = clip_like(n, seed).astype(dtype)
        if dtype == np.float32:
            found = found + np.random.default_rng(seed).normal(0, 1e-4, found.shape).astype(dtype)
            found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    for i, shard in enumerate(SHARDS):
        write(root / "pool", shard, rows(150 + i, 20 + i))
    tests = {n: write(root / n, "0", rows(40, s)) for n, s in (("val", 30), ("r", 31))}
    reference = write(root / "ref", "0", rows(60, 32))
    return {"pool": root / "pool", "tests": tests, "reference": reference, "out": root / "out"}


def contents(out: Path) -> dict[str, bytes]:
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()
    }


def change_table(out: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a table; every record says the new hash."""
    path = out / name
    write_parquet(path, change(read_parquet(path)))
    if path.parent.name == "thresholds":
        change_record(out, f"{name[:-8]}.json", {"outputs": {path.name: file_identity(path)}})
    elif path.parent != out:
        outputs = {path.parent.name: file_identity(path)}
        change_record(out, f"certificates/{path.stem}.json", {"outputs": outputs})
    sign(out, name)


def change_record(out: Path, name: str, change: dict[str, Any]) -> None:
    """Change (nested) values of a record; it and the manifest have digests that fit."""
    record = read_record(out / name)
    assert record is not None
    _merge(record, change)
    write_record(out / name, record)
    if name != "manifest.json":
        sign(out, name)


def sign(out: Path, name: str) -> None:
    change_record(out, "manifest.json", {"files": {name: file_identity(out / name)}})


def _merge(into: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
