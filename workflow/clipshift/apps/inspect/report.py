"""What `look` found, as text for a terminal or as a page with thumbnails."""

import base64
import html
import io
import shlex
from collections import Counter
from pathlib import Path

import yaml
from PIL import Image

from clipshift.apps.inspect import blocks
from clipshift.apps.inspect.look import Found
from clipshift.core.errors import ClipshiftError
from clipshift.study.config.names import as_name

SHOWN = 8  # classes, images
SIDE = 20  # characters of a thumbnail; a character is two pixels high
PAGE_SIDE = 160  # pixels of a thumbnail of the page
START = '<!doctype html><html lang="en">'  # of a page


def text(found: Found, colours: bool = False) -> str:
    """The report; `colours`: with thumbnails in the terminal's own colours."""
    rows = [f"{name:12}{value}" for name, value in facts(found)]
    parts = [f"{found.dataset.path}: {found.dataset.name}, {found.dataset.about}", *rows]
    if colours and found.images:
        parts += ["", thumbnails(list(found.images.values())[:SHOWN])]
    return "\n".join([*parts, "", *commands(found), ""])


def facts(found: Found) -> list[tuple[str, str]]:
    """Name and value of every line of the report."""
    rows = [("recognised", found.why), ("samples", _samples(found))]
    if found.rejected:
        rows.append(("rejected", _counts(found.rejected)))
    captions = f'{found.captions:,} samples; the first is "{found.caption[:80]}"'
    rows.append(("captions", captions if found.captions else "none"))
    rows.append(("classes", _classes(found)))
    if found.domains:
        rows.append(("folders", _counts(found.domains)))
    if known := [f"{name} of {n:,}" for name, n in found.witnesses.items() if n]:
        rows.append(("identity", ", ".join(known)))
    if found.images:
        sizes = sorted(i.width * i.height for i in found.images.values())
        small, large = (
            pick(found.images.values(), key=lambda i: i.width * i.height) for pick in (min, max)
        )
        rows.append((
            "sizes", f"{small.width} x {small.height} to {large.width} x {large.height} pixels, "
            f"median {sizes[len(sizes) // 2] / 1e6:.2f} megapixels, of {len(sizes)} looked at",
        ))  # fmt: skip
    for key, why in found.broken.items():
        rows.append(("broken", f"{key}: {why}"))
    if found.dataset.left_out:
        rows.append(("left out", _counts(found.dataset.left_out)))
    rows += [("guessed", line) for line in found.dataset.said]
    return rows


def _samples(found: Found) -> str:
    if found.whole:
        parts = f" in {found.units:,} parts" if found.units > 1 else ""
        return f"{found.samples:,}{parts}"
    about = round(found.samples / found.read * found.units)
    return (
        f"about {about:,}: {found.samples:,} in the first {found.read:,} of {found.units:,} parts"
    )


def _classes(found: Found) -> str:
    names = found.dataset.classes()
    if not found.labels:
        return f"{len(names):,} named, but no sample has a label" if names else "no labels"
    what = f"{len(found.labels):,}"
    if names and len(names) != len(found.labels):
        what += f" of {len(names):,} named"
    return f"{what}: {_counts(_named(found, names))}"


def _named(found: Found, names: list[str] | None) -> Counter[str]:
    """Samples by class name; by label where it is none of the classes."""
    if names is None or not found.dataset.numbered:
        return found.labels
    counts: Counter[str] = Counter()
    for label, count in found.labels.items():
        known = label.isascii() and label.isdigit() and int(label) < len(names)
        counts[names[int(label)] if known else label] += count
    return counts


def _counts(counts: Counter[str]) -> str:
    named = [f"{name} {n:,}" for name, n in counts.most_common(SHOWN)]
    more = f", and {len(counts) - SHOWN:,} more" if len(counts) > SHOWN else ""
    return ", ".join(named) + more


def commands(found: Found) -> list[str]:
    """Commands and the configuration block that read the data."""
    path = shlex.quote(str(found.dataset.path))
    lines = [
        "Compare it with test images, label it, or write a study of it:",
        f"  clipshift audit --train-images {path} --test-images TEST --out audit",
        f"  clipshift label --images {path} --out labels.parquet",
        f"  clipshift init {path} --test NAME=TEST --out study.yaml",
        "In a configuration:",
    ]
    return lines + [f"  {line}" for line in block(found).splitlines()]


def block(found: Found) -> str:
    """The block of a pool, ready to paste."""
    name = as_name(found.dataset.path.stem)
    block = {"pools": {name: blocks.pool(found, found.about)}}
    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True).rstrip()


def thumbnails(images: list[Image.Image]) -> str:
    """Images side by side, two pixels a character, in 24-bit colours (ANSI)."""
    small = [image.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    lines = []
    for y in range(0, SIDE, 2):
        cells = []
        for image in small:
            for x in range(SIDE):
                top, below = image.getpixel((x, y)), image.getpixel((x, y + 1))
                front, back = (";".join(map(str, c)) for c in (top, below))  # type: ignore[arg-type]
                cells.append(f"\x1b[38;2;{front}m\x1b[48;2;{back}m\N{UPPER HALF BLOCK}")
            cells.append("\x1b[0m ")
        lines.append("".join(cells))
    return "\n".join(lines)


def page(found: Found) -> str:
    """The report as one HTML file with the images that were looked at."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in facts(found)
    )
    figures = "".join(
        f'<figure><img src="{_data_uri(image)}" alt=""><figcaption>{html.escape(key)}</figcaption>'
        "</figure>"
        for key, image in found.images.items()
    )
    title = html.escape(str(found.dataset.path))
    shown = html.escape("\n".join(commands(found)))
    return (
        f'{START}<meta charset="utf-8"><title>{title}</title><style>'
        "body{font:15px system-ui;margin:2em;max-width:70em}th{text-align:left;padding-right:2em;"
        "vertical-align:top}figure{display:inline-block;margin:.5em;width:160px;font-size:11px;"
        "overflow-wrap:anywhere;vertical-align:top}pre{background:#8882;padding:1em}</style>"
        f"<h1>{title}</h1><p>{html.escape(found.dataset.about)}</p><table>{rows}</table>"
        f"<div>{figures}</div><pre>{shown}</pre></html>\n"
    )


def _data_uri(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((PAGE_SIDE, PAGE_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def write_page(found: Found, out: Path) -> None:
    """Write the page.

    Raises:
        ClipshiftError: there is something else, e.g. the data themselves.
    """
    from clipshift.core.files import write_text

    text = page(found)
    if out.is_file() and not out.read_bytes().startswith(START.encode()):
        raise ClipshiftError(f"{out} is there, and no page of ours; give another --page")
    write_text(out, text)
