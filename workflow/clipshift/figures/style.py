"""One look for all figures: colours that differ in grey and for the colour-blind, vector output.

Kinds of figures import it when Snakemake reads the workflow: matplotlib waits for the drawing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.core.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

# Okabe and Ito (2008), ordered so that neighbours differ in lightness; markers differ as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")
GREY = "#555555"
RHO = "\N{GREEK SMALL LETTER RHO}"
LETTER = 0.55  # mean width of a letter, as a share of the font's size
# How published points look beside ours, in the colour of their line or in grey.
PUBLISHED = {"mfc": "white", "ls": (0, (1, 1.5)), "lw": 1.0, "ms": 4.5, "zorder": 1.5}

SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],  # as wide, where a reader has no DejaVu
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "clipshift",  # element ids that do not change from run to run
    "svg.fonttype": "none",  # text stays text: to be read aloud, found, and copied
    "pdf.fonttype": 42,  # fonts as such, which publishers ask for
    "image.composite_image": False,  # images stay single
}


@contextmanager
def house_style(arranged: bool = True) -> Iterator[None]:
    """The look; `arranged`: room for labels and legends is made by itself."""
    import matplotlib

    # Jobs have no display.
    matplotlib.use("Agg")
    settings = SETTINGS | {"figure.constrained_layout.use": arranged}
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield


def panels(
    count: int,
    *,
    size: tuple[float, float] = (2.4, 2.4),
    columns: int = 3,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Any]]:
    """`count` panels in rows of at most `columns`; `size` is that of a panel, inches."""
    import matplotlib.pyplot as plt

    across = min(count, columns)
    down = -(-count // across)
    figure, grid = plt.subplots(
        down, across, figsize=(size[0] * across + 0.5, size[1] * down + 0.6),
        sharex=sharex, sharey=sharey, squeeze=False,
    )  # fmt: skip
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    for place, axis in enumerate(axes[:count]):
        if place + across >= count:  # the lowest of its column
            axis.tick_params(labelbottom=True)
    return figure, axes[:count]


def legend_above(figure: Figure, axes: Sequence[Any]) -> None:
    """One legend over all panels, each label once, in as many columns as fit."""
    from matplotlib.container import Container

    handles: dict[str, Any] = {}
    for axis in axes:
        pairs = list(zip(*axis.get_legend_handles_labels(), strict=True))
        # Lines with intervals are listed last, but are what a figure is about.
        for handle, label in sorted(pairs, key=lambda pair: not isinstance(pair[0], Container)):
            handles.setdefault(label, handle)
    if handles:
        across = _columns(list(handles), 72 * figure.get_figwidth())
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside upper center",
            ncols=across,
            fontsize=8,
        )


def _columns(labels: list[str], width: float) -> int:
    """The most columns of a legend, filled from top to bottom, that fit a width in points."""
    import numpy as np

    for across in range(len(labels), 1, -1):
        sizes = [len(part) for part in np.array_split(labels, across)]
        ends = np.cumsum(sizes)
        widest = (max(map(len, labels[e - n : e])) for n, e in zip(sizes, ends, strict=True))
        if sum(45 + 8 * LETTER * letters for letters in widest) <= width:
            return across
    return 1


def label_below(figure: Figure, text: str) -> None:
    """The label of all horizontal axes, in as many lines as the figure's width asks for."""
    letters = int(72 * figure.get_figwidth() / (9 * LETTER))
    figure.supxlabel("\n".join(textwrap.wrap(text, letters)), fontsize=9)


def base_name(base: str, reference: str) -> str:
    """How figures call a base: which of them is the reference set."""
    return f"{base} (reference set)" if base == reference else base


def look(i: int) -> dict[str, str]:
    """Colour and marker of the i-th line."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def title(axis: Any, name: str, n: int) -> None:
    axis.set_title(f"{name} (n = {n:,})", fontsize=9)


def edges(values: list[np.ndarray], width: float) -> np.ndarray:
    """Edges of bars on multiples of the width, one bar at least, that hold all values."""
    import numpy as np

    # Rounded, so that a value on an edge does not fall below it by its last bit.
    low = np.floor(round(float(min(v.min() for v in values)) / width, 9))
    high = np.floor(round(float(max(v.max() for v in values)) / width, 9)) + 1
    edge: np.ndarray = np.arange(int(low), int(high) + 1) * width
    return edge


def histogram(
    axis: Any, value: np.ndarray, bins: np.ndarray, label: str, colour: str, line: str
) -> None:
    """Share of the values per bar, %, with the median."""
    import numpy as np

    share = np.full(len(value), 100 / len(value))
    axis.hist(value, bins, weights=share, color=colour, alpha=0.15)
    axis.hist(
        value, bins, weights=share, histtype="step", color=colour, ls=line, lw=1.4, label=label
    )
    axis.axvline(float(np.median(value)), color=colour, ls=line, lw=0.9)


def save(figure: Figure, paths: Sequence[Path], description: str) -> None:
    """Write a figure by each path's suffix (svg, pdf): equal inputs give equal bytes, no date.

    Its title is the file's name in words, for readers who cannot see it.
    """
    import matplotlib.pyplot as plt

    for path in paths:
        kind = path.suffix.removeprefix(".")
        shared = {"Title": path.stem.replace("_", " ")}
        metadata = {
            "svg": shared | {"Date": None, "Description": description},
            "pdf": shared | {"CreationDate": None, "Subject": description},
        }[kind]
        with atomic_path(path) as part:
            figure.savefig(part, format=kind, metadata=metadata, dpi=200)
    plt.close(figure)
