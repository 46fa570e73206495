"""Small audits for the tests: embedding folders, folders of images, and a run of the command."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipshift.apps.audit.options import Options
from clipshift.core.files import write_npy, write_parquet
from tests.conftest import tied_vectors


def folder(path: Path, shards: dict[str, np.ndarray], keys: Sequence[str] | None = None) -> Path:
    """An embedding folder as another tool writes it; keys are `{folder}/{row}.jpg` by default."""
    row = 0
    for shard, vectors in shards.items():
        names = [
            keys[i] if keys else f"{path.name}/{i}.jpg" for i in range(row, row + len(vectors))
        ]
        row += len(vectors)
        write_npy(path / f"img_emb/img_emb_{shard}.npy", vectors)
        table = pa.table({"image_path": pa.array(names, pa.string())})
        write_parquet(path / f"metadata/metadata_{shard}.parquet", table)
    return path


def sides(root: Path, seed: int = 0, d: int = 8) -> dict[str, Path]:
    """Training (3 shards of uneven names), test and reference folders with many ties."""
    rows = tied_vectors(seed, 70, d, 30)
    return {
        # Natural order: 2, 9, 10.
        "train": folder(root / "train", {"2": rows[:30], "9": rows[30:31], "10": rows[31:42]}),
        "test": folder(root / "test", {"0": rows[40:55]}),
        "reference": folder(root / "reference", {"0": rows[55:]}),
    }


def options(out: Path, folders: dict[str, Path], **more: Any) -> Options:
    values: dict[str, Any] = {
        **folders,
        "out": out,
        "thresholds": [0.5, 0.9],
        "main_threshold": 0.9,
        "neighbours": 3,
        "items": 5,
        "sample": 4,
        "device": "cpu",
        "memory": 1,
    }
    return Options(**(values | more))


def command(*words: object) -> "subprocess.CompletedProcess[str]":
    call = [sys.executable, "-m", "clipshift.apps.cli", "audit", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def outputs(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.is_file()}
