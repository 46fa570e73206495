"""A sheet of images and small texts, placed in inches from its upper left corner."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipshift.figures.style import save

if TYPE_CHECKING:
    import numpy as np


class Sheet:
    """One page; to be used inside `house_style(arranged=False)`."""

    def __init__(self, width: float, height: float):
        import matplotlib.pyplot as plt

        self.figure = plt.figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self._frame = {"xlim": (0, width), "ylim": (height, 0), "aspect": "auto"}

    def image(self, x: float, y: float, side: float, pixels: np.ndarray) -> None:
        """A square image with a thin frame, its upper left corner at (x, y)."""
        from matplotlib.patches import Rectangle

        self.axes.imshow(
            pixels, extent=(x, x + side, y + side, y), interpolation="none", zorder=2, aspect="auto"
        )
        frame = Rectangle((x, y), side, side, fill=False, ec="#bbbbbb", lw=0.5, zorder=3)
        self.axes.add_patch(frame)

    def text(self, x: float, y: float, text: str, size: float = 7, **more: Any) -> None:
        """A text, by default centred at x with its upper edge at y."""
        style: dict[str, Any] = {
            "ha": "center",
            "va": "top",
            "fontsize": size,
            "linespacing": 1.1,
        } | more
        # A dollar sign would begin a formula.
        self.axes.text(x, y, text.replace("$", r"\$"), **style)

    def line(self, x: list[float], y: list[float], **more: Any) -> None:
        style: dict[str, Any] = {"color": "#888888", "lw": 0.6, "zorder": 1} | more
        self.axes.plot(x, y, **style)

    def save(self, out: list[Path], description: str) -> None:
        self.axes.set(**self._frame)
        save(self.figure, out, description)


def short(caption: str, width: int, lines: int = 2) -> str:
    """A caption in a few short lines, cut with an ellipsis.

    >>> short("animal bird, a duck on the water", 12)
    'animal bird,\\na duck on …'
    """
    return "\n".join(
        textwrap.wrap(caption, width, max_lines=lines, placeholder=" …", break_long_words=True)
    )
