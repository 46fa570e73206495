"""Blocks of a configuration that read what `look` found: for the report, and for a whole study."""

from collections.abc import Sequence
from typing import Any

from clipshift.apps.inspect.look import Found

TEMPLATE = "a photo of a {class}"
PER_SHARD = 100_000  # images of a shard: 10 to 30 minutes of embedding


def data(found: Found) -> dict[str, Any]:
    """The keys that every block of these data has."""
    block: dict[str, Any] = {
        "folder": str(found.dataset.path.resolve()), "format": found.dataset.name
    }  # fmt: skip
    return block | ({"columns": dict(found.dataset.columns)} if found.dataset.columns else {})


def pool(
    found: Found, count: int, template: str | None = None, exclude: Sequence[str] = (),
    part: list[float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The block of a pool.

    Args:
        count: samples; exclude, part: see `clipshift.datasets.parts`.
        template: of captions; by default for data with labels alone.
    """
    block = data(found)
    if exclude:
        block["exclude"] = list(exclude)
    if part:
        block["part"] = part
    if template or (found.labels and not found.captions):
        block["template"] = template or TEMPLATE
    if block.keys() == {"folder", "format"}:
        block |= _in_place(found)
    return block | {"shards": max(1, round(count / PER_SHARD)), "samples": count}


def _in_place(found: Found) -> dict[str, int]:
    """The keys by which img2dataset's tars are read where they lie; none for other data."""
    units = found.dataset.units()
    tars = all(file.suffix == ".tar" for unit in units for file in unit.files[:1])
    if found.dataset.name != "img2dataset" or not tars:
        return {}
    last = units[-1].files[0].stem
    return {"tars": int(last) + 1, "digits": len(last)}
