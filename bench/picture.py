"""The result as a picture: each figure beside its aim, and how cost grows. Plain SVG, and pure.

The line down the middle is the aim; a bar that reaches it keeps it, a longer one is better. Lengths
are logarithmic, from a tenth of the aim to ten times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from bench.aims import AIMS

_WIDTH: Final = 900
_LEFT: Final = 330
_RIGHT: Final = 760
_ROW: Final = 26
_MET, _MISSED, _INK, _FAINT = "#2b7a4b", "#b5542d", "#222222", "#bbbbbb"
_LINES: Final = {
    "gateway_cold_s": ("gateway, cold start, s", "#2b7a4b"),
    "gateway_warm_s": ("gateway, warm start, s", "#8fbf9f"),
    "worker_cold_s": ("worker, cold start, s", "#26619c"),
    "worker_warm_s": ("worker, warm start, s", "#93b4d4"),
    "gateway_peak_mb": ("gateway, memory, MB", "#b5542d"),
    "worker_peak_mb": ("worker, memory, MB", "#d9a48b"),
    "lookup_ms": ("lookup, ms", "#6b4e9b"),
    "page_ms": ("page of 1,000, ms", "#b3a1cf"),
}
_CHART_HEIGHT: Final = 300


def picture(figures: dict[str, Any], growth: Sequence[dict[str, Any]], title: str) -> str:
    """An SVG document."""
    bars = [(name, float(figures[name])) for name in AIMS if figures.get(name) is not None]
    parts, y = [_text(20, 30, title, size=16, weight="bold")], 62.0
    if bars:
        parts += _bars(bars, y)
        y += _ROW * len(bars) + 46
    if len(growth) > 1:
        parts += _chart(growth, y)
        y += _CHART_HEIGHT + 60
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y:.0f}"'
        f' font-family="sans-serif" fill="{_INK}">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def _bars(bars: Sequence[tuple[str, float]], top: float) -> list[str]:
    parts: list[str] = []
    middle = (_LEFT + _RIGHT) / 2
    for number, (name, value) in enumerate(bars):
        aim, y = AIMS[name], top + number * _ROW
        # Of a tenth to ten times the aim.
        share = min(1.0, max(-1.0, math.log10(max(aim.share(value), 0.1))))
        width = max(2.0, (share + 1) / 2 * (_RIGHT - _LEFT))
        colour = _MET if aim.is_met(value) else _MISSED
        sign = "\u2265" if aim.is_more_better else "\u2264"
        parts += [
            _text(_LEFT - 10, y + 13, aim.words, size=12, anchor="end"),
            f'<rect x="{_LEFT}" y="{y:.0f}" width="{width:.1f}" height="17" fill="{colour}"/>',
            _text(_RIGHT + 12, y + 13, f"{value:g}  ({sign} {aim.value:g})", size=12),
        ]
    bottom = top + len(bars) * _ROW
    parts.append(_line(middle, top - 6, middle, bottom, _INK))
    for times in (0.2, 0.5, 2, 5):
        x = middle + math.log10(times) / 2 * (_RIGHT - _LEFT)
        parts.append(_line(x, bottom - 4, x, bottom, _FAINT))
        parts.append(_text(x, bottom + 14, f"{times:g} x", size=10, anchor="middle"))
    parts.append(_text(middle, bottom + 14, "aim", size=10, anchor="middle"))
    return parts


def _chart(rows: Sequence[dict[str, Any]], top: float) -> list[str]:
    """Lines over the number of events; both axes are logarithmic."""
    left, right, bottom = 70.0, 640.0, top + _CHART_HEIGHT
    names = [name for name in _LINES if all(row.get(name, 0) > 0 for row in rows)]
    values = [float(row[name]) for row in rows for name in names]
    if not values:
        return []
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    first, last = (math.log10(rows[place]["events"]) for place in (0, -1))

    def x_of(events: float) -> float:
        return left + (math.log10(events) - first) / (last - first) * (right - left)

    def y_of(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * (_CHART_HEIGHT - 20)

    parts = [_text(20, top - 8, "How cost grows with the events in the log", weight="bold")]
    for power in range(low, high + 1):
        y = y_of(10.0**power)
        parts.append(_line(left, y, right, y, _FAINT))
        parts.append(_text(left - 8, y + 4, f"{10.0**power:g}", size=10, anchor="end"))
    for row in rows:
        events = row["events"]
        parts.append(_text(x_of(events), bottom + 16, f"{events:,}", size=10, anchor="middle"))
    for number, name in enumerate(names):
        words, colour = _LINES[name]
        points = " ".join(f"{x_of(r['events']):.1f},{y_of(r[name]):.1f}" for r in rows)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        y = top + 14 + number * 20
        parts.append(_line(right + 24, y, right + 50, y, colour, width=3))
        parts.append(_text(right + 58, y + 4, words, size=12))
    return parts


def _text(
    x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        f' stroke-width="{width}"/>'
    )
