# SPDX-License-Identifier: GPL-2.0-or-later OR MIT
"""Small plots as SVG, readable on a light and on a dark page."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 160, 20, 50
COLOURS = ("#3b78c4", "#d1702a", "#2f9b57", "#b0435b", "#7f62b8", "#8a8a2a", "#4aa3a8")


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = [m * 10.0**e for e in range(first, last + 1) for m in ((1, 2, 5) if last - first < 3 else (1,))]
        return [t for t in every if low * 0.999 <= t <= high * 1.001]
    step = 10 ** math.floor(math.log10((high - low) or 1))
    step = next(s for s in (step / 5, step / 2, step, step * 2, step * 5, step * 10) if (high - low) / s <= 7)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _said(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"


class Frame:
    """Axes and what is drawn between them."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], x_title: str, y_title: str, x_log: bool, y_log: bool):
        self.x_range, self.y_range, self.x_log, self.y_log = x, y, x_log, y_log
        self.parts = [f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}" fill="none" stroke="#888"/>']
        for tick in _ticks(*x, x_log):
            at = self.x(tick)
            self.parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#8884"/>')
            self.text(at, HEIGHT - BOTTOM + 16, _said(tick), "middle")
        for tick in _ticks(*y, y_log):
            at = self.y(tick)
            self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#8884"/>')
            self.text(LEFT - 6, at + 4, _said(tick), "end")
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "middle")
        self.text(LEFT - 60, TOP - 6, y_title, "start")
        self.names = 0

    @staticmethod
    def _place(value: float, bounds: tuple[float, float], log: bool) -> float:
        low, high = (math.log(b) for b in bounds) if log else bounds
        return ((math.log(value) if log else value) - low) / ((high - low) or 1)

    def x(self, value: float) -> float:
        """Where a value lies across."""
        return LEFT + self._place(value, self.x_range, self.x_log) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value lies from the top."""
        return HEIGHT - BOTTOM - self._place(value, self.y_range, self.y_log) * (HEIGHT - TOP - BOTTOM)

    def text(self, x: float, y: float, what: str, anchor: str, colour: str = "#888") -> None:
        """Words."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(what)}</text>')

    def line(self, points: Sequence[tuple[float, float]], name: str, marks: bool) -> None:
        """A line through points, and its name at the side."""
        colour = COLOURS[self.names % len(COLOURS)]
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points if marks else ():
            self.parts.append(f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" fill="{colour}"/>')
        self.text(WIDTH - RIGHT + 10, TOP + 14 + 18 * self.names, name, "start", colour)
        self.names += 1

    def svg(self) -> str:
        """All of it."""
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
                f' font-family="sans-serif" font-size="12">\n' + "\n".join(self.parts) + "\n</svg>\n")


def distributions(series: dict[str, Sequence[float]], title: str, log: bool = False) -> str:
    """Of each series, which part of the values is at most so large."""
    every = [v for values in series.values() for v in values]
    low = min(every) / 1.2 if log else 0
    frame = Frame((low, max(every) * 1.2), (0, 1), title, "part of all", log, False)
    for name, values in series.items():
        ordered = sorted(values)
        points = [(ordered[0], 0.0)]
        for i, value in enumerate(ordered, 1):
            points += [(value, points[-1][1]), (value, i / len(ordered))]
        frame.line(points, name, False)
    return frame.svg()


def lines(series: dict[str, Sequence[tuple[float, float]]], x_title: str, y_title: str, x_log: bool = False, y_log: bool = False) -> str:
    """Points joined by lines."""
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    frame = Frame((min(xs), max(xs)), (min(ys) / 1.3 if y_log else 0, max(ys) * 1.15), x_title, y_title, x_log, y_log)
    for name, points in series.items():
        frame.line(points, name, True)
    return frame.svg()
