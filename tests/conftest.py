"""Shared builders: tiny images, tiny sources, random embeddings with many ties."""

import io
import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: waiting threads slow small products

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from clipshift.core.files import sha256_bytes
from clipshift.datasets.shards import url_hash, write_table, write_tar
from clipshift.datasets.tars import Sample
from clipshift.similarity.embeddings import Embeddings

# The same examples in every run: a red test must mean a changed program.
settings.register_profile("clipshift", deadline=None, derandomize=True, database=None)
settings.load_profile("clipshift")

ROOT = Path(__file__).resolve().parents[1]


def photo(seed: int, size: tuple[int, int] = (16, 16), kind: str = "JPEG") -> bytes:
    """A small opaque image of blocks in random colours."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def svg(colour: str = "red", body: str = "", head: str = 'viewBox="0 0 20 20"') -> bytes:
    """A small drawing with transparency around it."""
    drawing = (
        f'<circle cx="8" cy="9" r="5" fill="{colour}"/><rect x="4" y="2" width="3" height="9"/>'
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" {head}>{body}{drawing}</svg>'.encode()


def unit(vectors: np.ndarray) -> np.ndarray:
    """float16 vectors as encoders store them: normalised in float64, then rounded."""
    vectors = vectors.astype(np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def tied_vectors(seed: int, n: int, d: int = 6, distinct: int | None = None) -> np.ndarray:
    """(n, d) float16 unit rows, drawn from `distinct` vectors so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    handful = unit(rng.normal(size=(distinct or max(1, n // 3), d)))
    return handful[rng.integers(0, len(handful), n)]


def embeddings(name: str, vectors: np.ndarray, seed: int = 0) -> Embeddings:
    """Rows with keys of shuffled numbers: the order of rows is not that of keys."""
    numbers = np.random.default_rng(seed).permutation(len(vectors))
    return Embeddings(vectors, [f"{name}-{i:04d}" for i in numbers])


def shuffled(rows: Embeddings, seed: int) -> Embeddings:
    order = np.random.default_rng(seed).permutation(len(rows.keys))
    return Embeddings(rows.vectors[order], [rows.keys[i] for i in order])


def row(
    source: str, name: str, category: str = "c", concept: str = "", **more: Any
) -> dict[str, Any]:
    """A row of a sample table; its key sorts by source, as real keys do."""
    locator = f"{source}:{name}"
    return {
        "key": f"{source}-{name}",
        "url_hash": url_hash(locator),
        "sha256": sha256_bytes(locator.encode()),
        "caption": name,
        "source": source,
        "family": "fam",
        "concept": concept or name,
        "category": category,
        "class_name": None,
        "held_out": False,
        "domain": "drawing",
        "licence": "CC0-1.0",
        "author": "",
        "locator": locator,
    } | more


def write_source(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A source's tar and table, with a real image for each row."""
    rows = sorted(rows, key=lambda r: r["key"])
    samples = []
    for number, entry in enumerate(rows):
        image = photo(hash_number(entry["key"]) + number)
        entry["sha256"] = sha256_bytes(image)
        samples.append(Sample(entry["key"], {"jpg": image, "txt": entry["caption"].encode()}))
    write_tar(folder / "samples.tar", samples)
    write_table(folder / "samples.parquet", list(rows))
    return folder


def hash_number(text: str) -> int:
    return int(sha256_bytes(text.encode())[:7], 16)


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.fixture
def ten_samples() -> list[Sample]:
    return [
        Sample(
            f"key-{i}",
            {"jpg": photo(i), "txt": f"caption {i}".encode(), "cls": b"%d" % (i % 3)},
        )
        for i in range(10)
    ]
