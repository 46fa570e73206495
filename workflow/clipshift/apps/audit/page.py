"""The audit's page: one file with images, charts and a table that works by keyboard."""

import base64
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from clipshift.apps.audit import svg, thumbnails
from clipshift.apps.audit.inputs import Side
from clipshift.apps.audit.nearest import Tests
from clipshift.apps.audit.options import Options
from clipshift.apps.audit.predictions import read_predictions
from clipshift.core.files import write_text

# A list up to this size is part of the page; a longer one is linked as the file beside it.
EMBEDDED_LIST = 256 << 10
NONE = "\N{EN DASH}"
NAME = "index.html"


def write(
    options: Options,
    summary: dict[str, Any],
    sides: dict[str, Side],
    found: Tests,
    reference: tuple[np.ndarray, list[str]] | None,
) -> Path:
    """Write index.html and return its path."""
    rows, drawn = choose(found.similarity[:, 0], options.items, options.sample, options.seed)
    items = table_items(options, sides, found, reference, rows, drawn)
    uris = images(options, items)
    path = options.out / NAME
    write_text(path, render(options.out, summary, items, uris))
    return path


def choose(
    similarity: np.ndarray, items: int, sample: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Test rows of the page: the most similar ones, then some drawn from the others, both by
    descending similarity; of equals the first row. Returns them, and which were drawn."""
    order = np.argsort(-similarity, kind="stable")
    worst, rest = order[:items], order[items:]
    size = min(sample, len(rest))
    drawn = rest[np.sort(np.random.default_rng(seed).choice(len(rest), size, replace=False))]
    return np.concatenate([worst, drawn]), np.arange(len(worst) + size) >= len(worst)


def table_items(
    options: Options,
    sides: dict[str, Side],
    found: Tests,
    reference: tuple[np.ndarray, list[str]] | None,
    rows: np.ndarray,
    drawn: np.ndarray,
) -> list[dict[str, Any]]:
    """The table's rows as the page's script reads them."""
    keys = sides["test"].all_keys()
    classes, correct = _classes(options, keys)
    neighbours = found.row[rows]
    names = sides["train"].keys_of(neighbours[neighbours >= 0])
    items = []
    for row, sampled in zip(rows.tolist(), drawn.tolist(), strict=True):
        item: dict[str, Any] = {"key": keys[row], "class": classes[row], "drawn": sampled}
        item["correct"] = correct[row]
        item["reference"] = min(1.0, float(reference[0][row])) if reference else None
        item["near"] = [
            {"key": names[int(r)], "similarity": min(1.0, float(s))}
            for r, s in zip(found.row[row], found.similarity[row], strict=True)
            if r >= 0
        ]
        items.append(item)
    return items


def _classes(options: Options, keys: list[str]) -> tuple[list[str], list[bool | None]]:
    """Class and correctness of every test item; the class is the folder where no file says it."""
    folders = [key.rpartition("/")[0].rpartition("/")[2] for key in keys]
    if options.predictions is None:
        return folders, [None] * len(keys)
    found = read_predictions(options.predictions, keys, options.test_set, options.columns)
    correct = [bool(c) if k else None for c, k in zip(found.correct, found.known, strict=True)]
    return (found.labels if any(found.labels) else folders), correct


def images(options: Options, items: list[dict[str, Any]]) -> list[str]:
    """Embed the items' images: the data URIs, to which `image` of items and neighbours point
    (null where there is none)."""
    uris: list[str] = []
    sides = {"test": items, "train": [near for item in items for near in item["near"]]}
    for side, entries in sides.items():
        where = thumbnails.find(options.sides[side].images, {entry["key"] for entry in entries})
        number: dict[str, int | None] = {}
        for entry in entries:
            key = entry["key"]
            if key not in number:
                uri = thumbnails.data_uri(where[key], options.colour) if key in where else None
                number[key] = None if uri is None else len(uris)
                uris += [uri] if uri is not None else []
            entry["picture"] = number[key]
    return uris


def render(out: Path, summary: dict[str, Any], items: list[dict[str, Any]], uris: list[str]) -> str:
    data = files("clipshift").joinpath("data")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "p_value": p_value}
    main = summary["options"]["main_threshold"]
    histogram = summary["similarity"]["histogram"]
    other = summary.get("reference", {}).get("histogram")
    table = summary["density"]
    lines = (
        (table["mean"], svg.TRAIN, "none"), (table["p95"], svg.OTHER, "7 4"),
        (table["max"], svg.GREY, "2 3"),
    )  # fmt: skip
    content = {
        "items": items,
        "pictures": uris,
        "thresholds": summary["options"]["thresholds"],
        "main": main,
    }
    return environment.from_string(data.joinpath("audit.html.j2").read_text()).render(
        s=summary,
        main=next(r for r in summary["near_duplicates"] if r["threshold"] == main),
        shown=[row for row in _density_rows(table) if row["similarity"] * 100 % 5 < 0.5],
        worst=sum(not item["drawn"] for item in items),
        drawn=sum(item["drawn"] for item in items),
        pictured=sum(item["picture"] is not None for item in items),
        with_class=any(item["class"] for item in items),
        histogram=Markup(
            svg.histogram(histogram["edges"], histogram["counts"], other and other["counts"], main)
        ),
        density=Markup(svg.density(table["similarity"], lines, main)),
        lists=[
            entry | {"href": href(out / entry["file"])}
            for entry in summary["remove"]
            if entry["file"] != "remove.txt"
        ],
        data=Markup(script_json(content)),
        style=Markup(data.joinpath("audit.css").read_text()),
        script=Markup(data.joinpath("audit.js").read_text()),
    )


def _density_rows(table: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
    return (dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True))


def percent(value: float | None) -> str:
    """
    >>> percent(0.25), percent(0.00037)
    ('25.0 %', '0.037 %')
    """
    if value is None:
        return NONE
    return f"{100 * value:.2g} %" if 0 < value < 0.0095 else f"{100 * value:.1f} %"


def p_value(value: float | None) -> str:
    return NONE if value is None else "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def script_json(value: Any) -> str:
    """JSON that no html parser takes for markup, whatever the keys hold.

    >>> script_json("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, separators=(",", ":"))  # ASCII: U+2028 and the like are escaped
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def href(path: Path) -> str:
    """A short list as a data URI, so that the page alone has it; a long one by its name."""
    if path.stat().st_size > EMBEDDED_LIST:
        return path.name
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(path.read_bytes()).decode()
