"""Tiny packages in the shape of the real ones, and the blocks that read them."""

import io
import tarfile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from clipshift.core.counts import StepCounts
from clipshift.core.files import read_json, read_parquet
from clipshift.datasets.sources.build import build
from clipshift.study.config.data import Rendering, Source
from tests.conftest import dump

RENDERING = Rendering(px=32)


def pack(file: Path, files: dict[str, bytes | str | Path]) -> Path:
    """A .tgz as npm packs it; a Path is a symbolic link's target."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, Path):
                info.type, info.linkname = tarfile.SYMTYPE, str(content)
                tar.addfile(info)
                continue
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def source(adapter: str, **keys: Any) -> Any:
    """A source block with what every source declares filled in."""
    common = {"family": "fam", "domain": "drawing", "licence": "CC0-1.0", "origin": "test"}
    return TypeAdapter(Source).validate_python({"adapter": adapter, **common, **keys})


def label(
    hexcode: str, annotation: str, subgroups: str = "animal-bird", **more: str
) -> dict[str, str]:
    """A row of openmoji.json."""
    return {
        "hexcode": hexcode, "annotation": annotation, "group": "animals-nature",
        "subgroups": subgroups, "tags": "", "openmoji_tags": "", "skintone": "",
    } | more  # fmt: skip


def run_build(spec: Any, packages: dict[str, Path], out: Path) -> tuple[StepCounts, dict[str, Any]]:
    """Build a source; its counts and its rows by the last part of their locators."""
    build("mine", spec, RENDERING, packages, out)
    step_counts = StepCounts.from_json(read_json(out / "manifest.json")["account"])
    rows = read_parquet(out / "samples.parquet").to_pylist()
    assert step_counts.came_in == len(rows) + sum(step_counts.rejected.values())
    return step_counts, {r["locator"].replace("#", "/").rsplit("/", 1)[-1]: r for r in rows}


def write_labels(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A labels package, unpacked (for adapters that are called alone)."""
    dump(folder / "package/data/openmoji.json", rows)
    return folder
