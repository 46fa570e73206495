"""One look for all figures: colours that differ in grey and for the colour-blind, vector output."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from clipshift.files import atomic_path

matplotlib.use("Agg")

# Okabe and Ito (2008), ordered so that neighbours differ in lightness; markers differ as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#555555"

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "clipshift",  # element ids that do not change from run to run
    "svg.fonttype": "path",
    "figure.constrained_layout.use": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a figure by its suffix (svg, png, pdf), without a date: equal inputs, equal bytes."""
    kind = path.suffix.removeprefix(".")
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with atomic_path(path) as part:
        figure.savefig(part, format=kind, metadata=metadata, dpi=200)
