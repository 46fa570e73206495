"""The page's two charts as inline SVG: no library, text stays text."""

from collections.abc import Sequence
from itertools import pairwise

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 44
TRAIN, OTHER, GREY = "#0072B2", "#B45F06", "#666"


class Frame:
    """Scales and axes of one chart."""

    def __init__(self, x: tuple[float, float], top: float) -> None:
        self.low, self.high, self.top = x[0], x[1], top

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)

    def y(self, share: float) -> float:
        return round(HEIGHT - BOTTOM - share / self.top * (HEIGHT - TOP - BOTTOM), 2)

    def axes(self, ticks: Sequence[tuple[float, str]], label: str) -> str:
        parts = []
        for value, text in ticks:
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
        step = 0.1 if self.high - self.low <= 1.01 else 0.2
        for i in range(round(self.low / step), round(self.high / step) + 1):
            x = self.x(i * step)
            y = HEIGHT - BOTTOM + 16
            parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{i * step:.1f}</text>')
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{label}</text>"
        )
        return "".join(parts)

    def mark(self, value: float, text: str) -> str:
        if not self.low <= value <= self.high:
            return ""
        x = self.x(value)
        return (
            f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="mark"/>'
            f'<text x="{x - 3}" y="{TOP - 3}" text-anchor="middle" class="small">{text}</text>'
        )


def wrap(body: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" '
        f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def histogram(
    edges: Sequence[float], train: Sequence[int], reference: Sequence[int] | None, main: float
) -> str:
    """Share of test items by the similarity of their nearest training item."""
    counts = [train] + ([reference] if reference is not None else [])
    used = [i for i, column in enumerate(zip(*counts, strict=True)) if any(column)]
    first = min(edges[used[0]], main)
    low = max(-1.0, int(first * 10 - (first < 0)) / 10)
    shares = [[c / sum(column) for c in column] for column in counts]
    highest = max(max(s) for s in shares)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if 5 * s > highest or s == 0.5)
    frame = Frame((low, 1.0), highest * 1.05)
    ticks = [(step * i, f"{100 * step * i:.0f} %") for i in range(int(highest / step) + 1)]
    parts = [frame.axes(ticks, "similarity to the nearest item")]
    for (left, right), share in zip(pairwise(edges), shares[0], strict=True):
        if share:
            x, width = frame.x(left), frame.x(right) - frame.x(left)
            y = frame.y(share)
            parts.append(
                f'<rect x="{x}" y="{y}" width="{max(width - 1, 1):.2f}" '
                f'height="{HEIGHT - BOTTOM - y:.2f}" fill="{TRAIN}"/>'
            )
    if reference is not None:
        points = []
        for (left, right), share in zip(pairwise(edges), shares[1], strict=True):
            if right > low:
                points += [
                    f"{frame.x(left)},{frame.y(share)}",
                    f"{frame.x(right)},{frame.y(share)}",
                ]
        parts.append(f'<polyline points="{" ".join(points)}" class="line" stroke="{OTHER}"/>')
    parts.append(frame.mark(main, f"{main:g}"))
    return wrap("".join(parts), "Histogram of the similarity to the nearest item; see the table")


def density(
    similarity: Sequence[float], lines: Sequence[tuple[Sequence[float], str, str]], main: float
) -> str:
    """Number of training items above each similarity, per test item, on a log(1 + n) scale."""
    import math

    highest = max(1.0, *(max(values) for values, _, _ in lines))
    top = math.log10(1 + highest) * 1.05
    low = next(
        (s for s, *column in zip(similarity, *(v for v, _, _ in lines), strict=True)
         if min(column) < 0.98 * highest),
        0.0,
    )  # fmt: skip
    low = min(int(low * 10) / 10, int(main * 10) / 10)
    frame = Frame((low, 1.0), top)
    powers = [0, *(10**i for i in range(int(math.log10(highest)) + 1))]
    ticks = [(math.log10(1 + n), f"{n:,}") for n in powers]
    parts = [frame.axes(ticks, "similarity")]
    for values, colour, dash in lines:
        points = " ".join(
            f"{frame.x(s)},{frame.y(math.log10(1 + v))}"
            for s, v in zip(similarity, values, strict=True)
            if s >= low
        )
        parts.append(
            f'<polyline points="{points}" class="line" stroke="{colour}" '
            f'stroke-dasharray="{dash}"/>'
        )
    parts.append(frame.mark(main, f"{main:g}"))
    return wrap("".join(parts), "Number of training items above each similarity; see the table")
