"""Small Matplotlib charts as inline SVG in the page's colours, which adapt to dark mode and print."""

from __future__ import annotations

import io
import itertools
import math
import re
import threading
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ornstein.arguments import printable

__all__ = ["LEVEL", "NORMAL", "Line", "Mark", "intervals", "lines", "number", "waterfall"]

WIDTH, LETTER = 480, 15  # units; letters are readable on a phone, where charts shrink, and made smaller elsewhere
MAX_NAME = 17  # letters of a name that fit
DEPTH = 1e-4  # share of the highest value at which a logarithmic axis ends and curves are cut off
LEVEL = 0.95  # confidence level of all intervals
NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)  # standard errors on either side
MINUS, RAISED = "\N{MINUS SIGN}", str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
VARIABLES = ("", "ink", "muted", "hair", "strong", "paper", "a", "b", "quiet", "c", "d", "e",
             "f")  # of the page; drawn as #000001 ...
COLOURS = {name: f"#{index:06}" for index, name in enumerate(VARIABLES)}
WASH = 0.14  # opacity of bands
LOOK = {"svg.fonttype": "none", "text.parse_math": False, "font.size": LETTER, "text.color": COLOURS["ink"],
        "figure.facecolor": "none", "axes.facecolor": "none", "axes.edgecolor": COLOURS["strong"],
        "axes.labelcolor": COLOURS["muted"], "xtick.labelcolor": COLOURS["muted"], "ytick.labelcolor": COLOURS["muted"],
        "grid.color": COLOURS["hair"], "axes.axisbelow": True, "legend.frameon": False, "axes.spines.left": False,
        "axes.spines.top": False, "axes.spines.right": False, "xtick.bottom": False, "ytick.left": False}
_drawing = threading.Lock()  # Matplotlib's settings are shared by all threads


@dataclass(frozen=True)
class Line:
    """A curve with increasing x, and standard errors of y if known; tones are "a" to "f" and "quiet"."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    tone: str = "a"
    dash: str = ""  # as matplotlib names it


@dataclass(frozen=True)
class Mark:
    """An estimate, None where only its interval is known, and the text after it; "quiet" ones are rings."""

    name: str
    value: float | None
    low: float
    high: float
    text: str
    tone: str = "a"


def number(value: float, error: float | None = None, figures: int = 3) -> str:
    """Format a number with a true minus sign and as many digits as its error supports, or `figures` without one.

    The last digit shown is that of the error's (or half interval's) first digit, or second if the first is 1 or 2.
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
    # A number that rounds to zero has no sign.
    return (text.lstrip("-") if not text.strip("-0.,") else text).replace("-", MINUS)


def lines(curves: Sequence[Line], title: str, x: str, y: str) -> str:
    """An `<svg>` of curves with bands of 95 %, or "" where no point is finite.

    The title is for screen readers; y is logarithmic if it spans more than two decades.
    """
    known = [(curve, points) for curve in curves if (points := _finite(curve)).size]
    if not known:
        return ""
    heights = np.concatenate([points[1] for _, points in known])
    logarithmic = 0 < heights.min() < heights.max() / 100
    floor = max(heights.min() / 1.3, DEPTH * heights.max()) if logarithmic else -np.inf

    def draw(axes: Any) -> None:
        from matplotlib.ticker import LogLocator, NullLocator

        if logarithmic:
            axes.set_yscale("log")
        for curve, (across, up, error) in known:
            colour, reach = COLOURS[curve.tone], NORMAL * error
            # A polygon instead of `fill_between`, and no markers: those would be drawn by references to an id.
            axes.fill([*across, *across[::-1]], np.maximum([*(up - reach), *(up + reach)[::-1]], floor), color=colour,
                      alpha=WASH, lw=0)
            axes.plot(across, np.where(up < floor, np.nan, up), color=colour, lw=2, ls=curve.dash or "-")
            if len(across) == 1:
                _dot(axes, across, up, colour)
        _ticks(axes.xaxis, 6)
        _ticks(axes.yaxis, 5)
        low, high = axes.get_ylim()
        if logarithmic:
            axes.set_ylim(bottom=floor)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,), numticks=7))
            axes.yaxis.set_minor_locator(NullLocator())
        elif 0 < low < high / 2:
            axes.set_ylim(bottom=0)
        if low < 0 < high:
            axes.axhline(0, color=COLOURS["strong"], lw=1)
        axes.set_xlabel(x)
        axes.margins(x=0)
        axes.grid(axis="y")
        axes.legend(axes.lines[:len(known)], [_short(curve.name) for curve, _ in known], title=y, alignment="left",
                    loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.6)

    return _svg(draw, 260 + 19 * math.ceil(len(known) / 2), title, "; ".join(
        f"{curve.name}: from {number(points[1][0])} at {number(points[0][0])} to {number(points[1][-1])} "
        f"at {number(points[0][-1])}" for curve, points in known))


def intervals(marks: Sequence[Mark], title: str, best: float) -> str:
    """An `<svg>` of estimates with finite intervals in lanes, and of the best score; "" if there are none.

    The interval of a "quiet" mark is a band across all lanes, so that overlaps with the others can be seen at once.
    """
    marks = [mark for mark in marks if math.isfinite(mark.low + mark.high + (mark.value or 0))]
    if not marks:
        return ""

    def draw(axes: Any) -> None:
        for row, mark in enumerate(marks):
            colour, quiet = COLOURS[mark.tone], mark.tone == "quiet"
            if quiet:
                axes.axvspan(mark.low, mark.high, color=colour, alpha=WASH, lw=0)
            axes.hlines(row, mark.low, mark.high, color=colour, lw=1.75)
            axes.vlines((mark.low, mark.high), row - 0.16, row + 0.16, color=colour, lw=1.75)
            if mark.value is not None:
                _dot(axes, mark.value, row, colour)
                if quiet:
                    _dot(axes, mark.value, row, COLOURS["paper"], 7)
        axes.axvline(best, color=COLOURS["ink"], lw=1.25)
        axes.annotate("best", (best, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                      color=COLOURS["muted"])
        _lanes(axes, [(mark.name, mark.text, mark.tone) for mark in marks])

    return _svg(draw, 62 + 32 * len(marks), title, "; ".join(
        f"{mark.name}: {mark.text}, interval {number(mark.low)} to {number(mark.high)}" for mark in marks))


def waterfall(parts: Sequence[tuple[str, float, float]], title: str, total: str, tone: str = "a") -> str:
    """An `<svg>` of terms (name, value, standard error), each from where the last ends, and their sum; "" for none."""
    parts = [part for part in parts if math.isfinite(part[1])]
    if not parts:
        return ""
    ends = [0.0, *np.cumsum([value for _, value, _ in parts]).tolist()]
    rows = [(name, number(value, error), "ink") for name, value, error in parts]
    rows.append((total, number(ends[-1], max(error for *_, error in parts) or None), "ink"))

    def draw(axes: Any) -> None:
        axes.axvline(0, color=COLOURS["ink"], lw=1.25)
        for row, (start, end) in enumerate([*itertools.pairwise(ends), (0.0, ends[-1])]):
            last = row == len(parts)
            axes.barh(row, end - start, 0.65, start, color=COLOURS[tone], edgecolor=COLOURS[tone],
                      alpha=1 if last else 0.55)
            if not last:
                axes.vlines(end, row + 0.33, row + 0.67, color=COLOURS["strong"], lw=0.75)
        _lanes(axes, rows)
        axes.set_xlabel("nats", loc="right")

    return _svg(draw, 70 + 34 * len(rows), title, "; ".join(f"{name}: {text}" for name, text, _ in rows))


def _finite(curve: Line) -> np.ndarray:
    """The finite points of a curve, (3, n): x, y and the standard error of y."""
    points = np.array([curve.x, curve.y, curve.error or np.zeros(len(curve.x))], dtype=float)
    points[2, ~np.isfinite(points[2])] = 0
    return points[:, np.isfinite(points).all(0)]


def _lanes(axes: Any, rows: Sequence[tuple[str, str, str]]) -> None:
    """Label lanes from top to bottom with a name before and a text after each, in its colour."""
    axes.set_yticks(range(len(rows)), [_short(name) for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for row, (label, (_, text, tone)) in enumerate(zip(axes.get_yticklabels(), rows, strict=True)):
        label.set_color(COLOURS[tone])
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center_baseline", color=COLOURS[tone])
    _ticks(axes.xaxis, 3)


def _dot(axes: Any, x: Any, y: Any, colour: str, size: float = 11) -> None:
    """Draw a round point."""
    axes.hlines(y, x, x, color=colour, lw=size, capstyle="round", zorder=3)


def _ticks(axis: Any, limit: int) -> None:
    """Put at most `limit` steps of 1, 2 or 5 times a power of ten on an axis."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(limit, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: number(value, figures=6))


def _short(name: str) -> str:
    """Shorten a name to the available room, without unprintable characters."""
    name, room = printable(name), MAX_NAME
    for index, letter in enumerate(name):
        room -= 1 + (unicodedata.east_asian_width(letter) in "WF")
        if room < 0:
            return name[:index - 1] + "…"
    return name


def _svg(draw: Callable[[Any], None], height: float, title: str, description: str) -> str:
    """The SVG element of what `draw` draws on axes, in the page's colours."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with _drawing, style.context(LOOK, after_reset=True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # only the browser needs the glyph
        figure = Figure((WIDTH / 72, height / 72))  # 72 units per inch
        draw(figure.subplots())
        figure.tight_layout(pad=0.2)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})  # `savefig` would draw twice
    drawing = ElementTree.fromstring(file.getvalue())  # noqa: S314 - of our own
    chart = ElementTree.Element("svg", {"class": "chart", "viewBox": drawing.attrib["viewBox"], "role": "img",
                                        "aria-label": title})
    for name, text in (("title", title), ("desc", description)):
        ElementTree.SubElement(chart, name).text = text
    chart.extend(part for part in drawing if part.tag.endswith("}g"))
    for node in chart.iter():
        node.tag = node.tag.rpartition("}")[2]
        for reference in ("id", "clip-path"):  # which would be duplicated on a page with several charts
            node.attrib.pop(reference, None)
        if "style" in node.attrib:
            node.attrib["style"] = re.sub(r"#0000(\d\d)", lambda match: f"var(--{VARIABLES[int(match[1])]})",
                                          node.attrib["style"])
    return ElementTree.tostring(chart, "unicode")
