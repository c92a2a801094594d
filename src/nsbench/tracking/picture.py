"""The curves of a cell as a small SVG file: validation accuracy and loss of each seed, without a plotting library."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CURVES = "curves.svg"
WIDTH, HEIGHT, LEFT, TOP, GAP = 380, 260, 52, 46, 56
"""Pixels: of a panel, and before, above and between panels."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
POINTS = 200
"""At most so many of a curve are drawn."""


class Panel(NamedTuple):
    """A panel: its title, and for each seed the values at its steps."""

    title: str
    curves: dict[int, tuple[Sequence[float], Sequence[float]]]
    line: float | None = None
    """Of the target."""


def draw(title: str, panels: Sequence[Panel]) -> str:
    """The panels beside each other, as text of an SVG file."""
    width = LEFT + len(panels) * (WIDTH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 62}" width="{width}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{html.escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({LEFT + number * (WIDTH + GAP)} {TOP})">{_panel(panel)}</g>')
    for number, seed in enumerate(panels[0].curves):
        x = LEFT + number * 66
        parts.append(
            f'<path d="M{x} {TOP + HEIGHT + 50}h16" stroke="{_colour(number)}" stroke-width="2"/>'
            f'<text x="{x + 20}" y="{TOP + HEIGHT + 54}">seed {seed}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `n` of them."""
    rough = (high - low) / n
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _panel(panel: Panel) -> str:
    shown = {seed: _thinned(*curve) for seed, curve in panel.curves.items()}
    values = np.concatenate([values for _, values in shown.values()] or [np.zeros(0)])
    steps = max((float(steps[-1]) for steps, _ in shown.values() if len(steps)), default=1.0) or 1.0
    with_line = [panel.line] if panel.line is not None else []
    low, high = (min([*values, *with_line]), max([*values, *with_line])) if len(values) else (0.0, 1.0)
    marks = ticks(low, high if high > low else low + 1.0)
    low, high = marks[0], marks[-1]
    parts = [f'<text y="-8">{html.escape(panel.title)}</text>']
    for mark in marks:
        y = HEIGHT * (high - mark) / (high - low)
        parts.append(
            f'<path d="M0 {y:.1f}h{WIDTH}" stroke="#ddd"/>'
            f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>'
        )
    for mark in ticks(0.0, steps, 4):
        if mark <= steps:
            x = WIDTH * mark / steps
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 18}" text-anchor="middle">{mark:,.0f}</text>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT + 34}" text-anchor="end">steps</text>')
    if panel.line is not None:
        y = HEIGHT * (high - panel.line) / (high - low)
        parts.append(f'<path d="M0 {y:.1f}h{WIDTH}" stroke="#555" stroke-dasharray="5 4"/>')
        parts.append(f'<text x="{WIDTH + 4}" y="{y + 4:.1f}">target</text>')
    for number, (at, values) in enumerate(shown.values()):
        xs, ys = WIDTH * at / steps, HEIGHT * (high - values) / (high - low)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{_colour(number)}" stroke-width="1.6"/>')
    return "".join(parts)


def _thinned(steps: Sequence[float], values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The finite values, as many as a panel can show; the last among them."""
    at, of = np.asarray(steps, float), np.asarray(values, float)
    kept = np.flatnonzero(np.isfinite(of))
    if len(kept) > POINTS:
        kept = kept[np.linspace(0, len(kept) - 1, POINTS).round().astype(int)]
    return at[kept], of[kept]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
