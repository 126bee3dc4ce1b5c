"""Small charts as inline SVG in the page's own colours, by class, so that dark mode and print follow."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

__all__ = ["NORMAL", "Line", "Mark", "intervals", "lines", "number", "ticks", "waterfall"]

WIDTH = 480
LINE = 15  # units of a letter's height that there is room for: on a phone, where a chart shrinks, a page enlarges them
DEPTH = 1e-4  # of the highest value: below it a logarithmic axis ends, and curves are cut
NORMAL = 1.96  # standard errors to either side of a 95 % interval
MINUS, RAISED = "\N{MINUS SIGN}", str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """A curve with its standard errors.

    Args:
        name: written at the end of the line.
        x, y: points, x rising.
        error: standard errors of y; () for none.
        tone: "a", "b" or "quiet".
        dash: "" for a whole line, else what SVG calls a dash array.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    tone: str = "a"
    dash: str = ""


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval: one lane of a chart of intervals.

    Args:
        name: short, at the start of the lane.
        value: the point; None where only the interval is known.
        low, high: ends of the interval.
        text: what is written at the end of the lane.
        tone: "a", "b", or "quiet", which is drawn as a ring.
    """

    name: str
    value: float | None
    low: float
    high: float
    text: str
    tone: str = "a"


def number(value: float, error: float | None = None, figures: int = 3) -> str:
    """A number with as many digits as its error lets it have.

    Args:
        value: to write.
        error: standard error or half an interval: its first digit is shown, and a second where the first is 1 or 2.
        figures: significant digits without an error.

    Returns:
        Text with a true minus sign, and a power of ten where it is below 0.0001 or from a million on.
    """
    if not math.isfinite(value):
        return "not finite"
    known = error is not None and math.isfinite(error) and error > 0
    size = max(abs(value), error if known and error else 0.0)
    if size == 0:
        return "0"
    if known and error:
        first = math.floor(math.log10(error) + 1e-9)
        places = -first + (error < 2.95 * 10**first)
    else:
        places = figures - 1 - math.floor(math.log10(size) + 1e-9)
    power = math.floor(math.log10(size) + 1e-9)
    small_or_large = size < 1e-4 or size >= 1e6
    text = (f"{value / 10.0**power:.{max(places + power, 0)}f}" if small_or_large
            else f"{round(value, places):,.{max(places, 0)}f}")
    if not known and "." in text:
        text = text.rstrip("0").rstrip(".")
    text = text if abs(value) >= 10_000 else text.replace(",", "")
    if small_or_large:
        ten = f"10{str(power).translate(RAISED)}"
        text = ten if text == "1" and not known else f"{text}×{ten}"
    # What rounds to zero has no sign.
    return (text.lstrip("-") if not text.strip("-0.,") else text).replace("-", MINUS)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within [low, high]: at most `most` of them, apart by 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def lines(curves: Sequence[Line], title: str, x: str, y: str) -> str:
    """Curves with bands of 95 %, each named where it ends; y is logarithmic where it spans more than two decades.

    Args:
        curves: to draw; points that are not finite are left out.
        title: what a screen reader says.
        x, y: names of the axes, with units.

    Returns:
        An `<svg>`, or "" where there is nothing to draw.
    """
    known = [(curve, points) for curve in curves if (points := _finite(curve))]
    if not known:
        return ""
    across, middle = ([point[axis] for _, points in known for point in points] for axis in (0, 1))
    logarithmic = max(middle) > 0 <= min(middle) and max(middle) > 100 * min(middle)
    ends = [(up - NORMAL * error, up + NORMAL * error) for _, points in known for _, up, error in points]
    # A band may reach below zero, where a logarithm has no place for it.
    low = max(min(middle) / 1.3, DEPTH * max(middle)) if logarithmic else min(end[0] for end in ends)
    high = max(end[1] for end in ends)
    if not logarithmic and 0 < low < 0.5 * high:
        low = 0.0
    if not high > low:
        low, high = low - abs(low or 1) / 2, high + abs(high or 1) / 2
    marks = _decades(low, high) if logarithmic else ticks(low, high)
    names = [number(mark) for mark in marks]
    left, top, height = 12 + max(map(_wide, names)), 32, 230
    label = {curve.name: _short(curve.name) for curve, _ in known}
    right = WIDTH - 18 - max(map(_wide, label.values()))
    start, end = min(across), max(across)
    if not end > start:
        start, end = start - 1, end + 1

    def to_x(value: float) -> float:
        return left + (value - start) / (end - start) * (right - left)

    def to_y(value: float) -> float:
        share = (math.log(max(value, low) / low) / math.log(high / low) if logarithmic
                 else (value - low) / (high - low))
        return top + height * (1 - min(max(share, 0), 1))

    parts = [f'<text class="axis" x="0" y="14">{escape(y)}</text>']
    for mark, name in zip(marks, names, strict=True):
        zero = mark == 0 and low < 0
        parts += [_rule(left, to_y(mark), right, to_y(mark), "base" if zero else "grid"),
                  _text(left - 8, to_y(mark) + 4.5, name, "tick", "end")]
    steps = ticks(start, end, 6)
    for mark in steps:
        parts.append(_text(to_x(mark), top + height + 20, number(mark), "tick", "middle"))
    parts += [_rule(left, top + height, right, top + height, "base"),
              _text((left + right) / 2, top + height + 43, x, "axis", "middle")]
    tails = []
    for curve, points in known:
        points = _above(points, low) if logarithmic else points
        path = [(to_x(a), to_y(b)) for a, b, _ in points]
        if any(error > 0 for *_, error in points):
            over = [(to_x(a), to_y(b + NORMAL * error)) for a, b, error in points]
            under = [(to_x(a), to_y(b - NORMAL * error)) for a, b, error in reversed(points)]
            parts.append(f'<polygon class="band {curve.tone}" points="{_path(over + under)}"/>')
        dash = f' stroke-dasharray="{escape(curve.dash)}"' if curve.dash else ""
        shape = (f'<polyline points="{_path(path)}"{dash}' if len(path) > 1
                 else f'<circle cx="{path[0][0]:.1f}" cy="{path[0][1]:.1f}" r="4"')
        parts.append(f'{shape} class="line {curve.tone}"><title>{escape(curve.name)}</title>'
                     f'{"</polyline>" if len(path) > 1 else "</circle>"}')
        tails.append((*path[-1], curve))
    for place, (tail_x, tail_y, curve) in _apart(tails, top, top + height):
        if abs(place - tail_y) > 3 or tail_x < right - 3:
            parts.append(_rule(tail_x + 2, tail_y, right + 8, place, "leader"))
        parts.append(_text(right + 12, place + 4.5, label[curve.name], f"name {curve.tone}"))
    return _svg(parts, top + height + 52, title, "; ".join(
        f"{curve.name}: from {number(points[0][1])} at {number(points[0][0])} to {number(points[-1][1])} "
        f"at {number(points[-1][0])}" for curve, points in known))


def intervals(marks: Sequence[Mark], title: str, best: float) -> str:
    """Estimates with their intervals on one axis, a lane each, and what a perfect model would score as a line.

    The interval of a "quiet" mark runs as a band through all lanes: whether another one overlaps it is seen at once.

    Args:
        marks: the lanes from top to bottom; a mark with an end that is not finite is left out.
        title: what a screen reader says.
        best: the perfect score.

    Returns:
        An `<svg>`, or "" where there is nothing to draw.
    """
    marks = [mark for mark in marks if math.isfinite(mark.low + mark.high + (mark.value or 0))]
    if not marks:
        return ""
    all_ends = [best, *(end for mark in marks for end in (mark.low, mark.high, mark.value) if end is not None)]
    room = 0.05 * (max(all_ends) - min(all_ends)) or 0.5
    low, high = min(all_ends) - room, max(all_ends) + room
    left = 20 + max(_wide(_short(mark.name)) for mark in marks)
    right = WIDTH - 16 - max(_wide(mark.text) for mark in marks)
    top, lane = 22, 32
    bottom = top + lane * len(marks)

    def to_x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts = []
    for mark in marks:
        if mark.tone == "quiet":
            parts.append(f'<rect class="band quiet" x="{to_x(mark.low):.1f}" y="{top}" '
                         f'width="{max(to_x(mark.high) - to_x(mark.low), 1):.1f}" height="{bottom - top}"/>')
    parts.append(_rule(left, bottom, right, bottom, "base"))
    for tick in ticks(low, high, 4):
        parts += [_rule(to_x(tick), bottom, to_x(tick), bottom + 5, "base"),
                  _text(to_x(tick), bottom + 21, number(tick), "tick", "middle")]
    parts += [_rule(to_x(best), top - 4, to_x(best), bottom, "best"),
              _text(min(max(to_x(best), left + 12), right - 12), top - 9, "best", "tick", "middle")]
    for row, mark in enumerate(marks):
        y = top + lane * (row + 0.5)
        parts += [_text(0, y + 4.5, _short(mark.name), f"name {mark.tone}"),
                  _text(WIDTH, y + 4.5, mark.text, f"name {mark.tone}", "end"),
                  _rule(to_x(mark.low), y, to_x(mark.high), y, f"span {mark.tone}")]
        parts += [_rule(to_x(end), y - 5, to_x(end), y + 5, f"span {mark.tone}") for end in (mark.low, mark.high)]
        if mark.value is not None:
            parts.append(f'<circle class="mark {mark.tone}" cx="{to_x(mark.value):.1f}" cy="{y:.1f}" r="5.5"/>')
    return _svg(parts, bottom + 30, title, "; ".join(
        f"{mark.name}: {mark.text}, interval {number(mark.low)} to {number(mark.high)}" for mark in marks))


def waterfall(parts: Sequence[tuple[str, float, float]], title: str, total: str, tone: str = "a") -> str:
    """Terms that add up, each beginning where the one before it ended, and their sum below.

    Args:
        parts: (name, value, standard error) of each term.
        title: what a screen reader says.
        total: name of the sum.
        tone: "a" or "b".

    Returns:
        An `<svg>`, or "" where there is nothing to draw.
    """
    parts = [part for part in parts if math.isfinite(part[1])]
    if not parts:
        return ""
    rows, here = [], 0.0
    for name, value, error in parts:
        rows.append((name, here, here + value, f"{number(value, error)}"))
        here += value
    rows.append((total, 0.0, here, number(here, max(abs(part[2]) for part in parts) or None)))
    ends = [0.0, *(end for row in rows for end in row[1:3])]
    room = 0.03 * (max(ends) - min(ends)) or 0.5
    low, high = min(ends) - room, max(ends) + room
    left = 16 + max(_wide(_short(row[0])) for row in rows)
    right = WIDTH - 14 - max(_wide(row[3]) for row in rows)
    lane, bottom = 34, 34 * len(rows) + 6

    def to_x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    drawn = [_rule(left, bottom, right, bottom, "base"), _rule(to_x(0), 0, to_x(0), bottom, "best")]
    for tick in ticks(low, high, 4):
        drawn += [_rule(to_x(tick), bottom, to_x(tick), bottom + 5, "base"),
                  _text(to_x(tick), bottom + 21, number(tick), "tick", "middle")]
    drawn.append(_text(WIDTH, bottom + 21, "nats", "axis", "end"))
    for place, (name, start, end, text) in enumerate(rows):
        y, last = lane * place + 6, place == len(rows) - 1
        x, wide = min(to_x(start), to_x(end)), max(abs(to_x(end) - to_x(start)), 1.5)
        drawn += [_text(0, y + 16, _short(name), "name strong" if last else "name"),
                  f'<rect class="bar {tone}{"" if last else " part"}" x="{x:.1f}" y="{y}" width="{wide:.1f}" '
                  f'height="22"><title>{escape(name)}: {text}</title></rect>',
                  _text(WIDTH, y + 16, text, "name strong" if last else "name", "end")]
        if not last:
            drawn.append(_rule(to_x(end), y + 22, to_x(end), y + lane, "leader"))
    return _svg(drawn, bottom + 30, title, "; ".join(f"{row[0]}: {row[3]}" for row in rows))


def _finite(curve: Line) -> list[tuple[float, float, float]]:
    errors = curve.error or [0.0] * len(curve.x)
    return [(x, y, error if math.isfinite(error) else 0.0) for x, y, error in zip(curve.x, curve.y, errors, strict=True)
            if math.isfinite(x + y)]


def _above(points: list[tuple[float, float, float]], low: float) -> list[tuple[float, float, float]]:
    """The part of a curve that a logarithmic axis from `low` shows: cut where it goes below, not laid on the axis."""
    kept = points[:1] if points[0][1] >= low else []
    for before, after in pairwise(points):
        if (before[1] < low) != (after[1] < low):
            ends = [math.log(max(one[1] / low, 1e-6)) for one in (before, after)]
            kept.append((before[0] + ends[0] / (ends[0] - ends[1]) * (after[0] - before[0]), low, 0.0))
        if after[1] >= low:
            kept.append(after)
    return kept or points


def _decades(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 3:  # few decades: 2 and 5 times each as well
        marks = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [float(f"{mark:.3g}") for mark in marks if low <= mark <= high]
    return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 6)]


def _apart(tails: list[tuple[float, float, Line]], low: float,
           high: float, gap: float = 19) -> list[tuple[float, tuple[float, float, Line]]]:
    """Heights of names at the ends of their lines, in the same order and not on top of each other."""
    tails = sorted(tails, key=lambda tail: tail[1])
    places: list[float] = []
    for tail in tails:
        places.append(max(tail[1], places[-1] + gap) if places else max(tail[1], low))
    limit = high
    for place in reversed(range(len(places))):
        places[place] = limit = min(places[place], limit)
        limit -= gap
    return list(zip(places, tails, strict=True))


def _wide(text: str) -> float:
    """Units that a text may need in the widest of common fonts, at `LINE` units high and half bold."""
    return LINE * sum(1.1 if unicodedata.east_asian_width(letter) in "WF" else 0.36 if letter in " .,:;'|ijl" else
                      0.65 if letter.isdigit() or letter.islower() else 0.9 for letter in text)


def _short(name: str, most: float = 156) -> str:
    """The beginning of a name, as much of it as there is room for."""
    if _wide(name) <= most:
        return name
    while name and _wide(name) > most - LINE:
        name = name[:-1]
    return name + "…"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, title: str, description: str) -> str:
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join(parts)}</svg>")
