"""Drawings of arrays: traces as lines, volumes as slices, points of the plane, histograms of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ornstein.data import DataSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "SHEET_LIMITS",
    "draw_arrays",
    "draw_fields",
    "draw_histograms",
    "draw_points",
    "draw_traces",
    "entry_names",
    "middle_slice",
    "new_figure",
    "render",
    "shorten",
    "style_axes",
]

COLOURS = ("#26466e", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2", "#646464")
SHEET_LIMITS = {"traces": 36, "fields": 12, "values": 16}  # limits of one sheet; its heading says if there are more


def draw_arrays(spec: DataSpec, values: np.ndarray, names: Sequence[str] | None = None) -> Image.Image:
    """Draw arrays (N, *spec.shape) in the data's own units as one image in the way that suits their shape."""
    if len(spec.shape) == 2:
        return draw_traces(spec, values, names)
    if len(spec.shape) > 2:
        return draw_fields(values, names)
    if spec.shape == (2,):
        return draw_points(values, names, entry_names(spec))
    return draw_histograms(values, entry_names(spec))


def entry_names(spec: DataSpec) -> list[str]:
    """Names of the entries of a vector, or of the channels of other arrays."""
    noun = "value" if len(spec.shape) == 1 else "channel"
    return list(spec.columns) or [f"{noun} {index}" for index in range(spec.shape[0])]


def new_figure(width: float, height: float, automatic: bool = True) -> Figure:
    """A white figure of a size in inches, with an automatic layout or one that the caller makes."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if automatic else None, dpi=100)


def render(figure: Figure) -> Image.Image:
    """Render a figure as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def draw_traces(spec: DataSpec, values: np.ndarray, names: Sequence[str] | None = None) -> Image.Image:
    """Draw traces (N, C, L), one small plot each with coloured channels, or one for each channel if ranges differ."""
    values, heading = _first(values, SHEET_LIMITS["traces"], "traces")
    channels = spec.shape[0]
    # Channels with different ranges cannot share an axis.
    plots = channels if isinstance(spec.low, tuple) and channels <= 6 else 1
    columns = plots * max(1, round(min(6, len(values) ** 0.5) / plots))
    rows = -(-len(values) * plots // columns)
    figure = new_figure(max(2.2 * columns, 4), max(1.35 * rows, 1.6) + 0.9, automatic=False)
    grid = figure.subplots(rows, columns, sharex=True, sharey=plots == 1, squeeze=False)
    ends = [_ends(values[:, channel]) for channel in range(channels)] if plots > 1 else [_ends(values)]
    for number, axes in enumerate(grid.flat):
        if number >= len(values) * plots:
            axes.set_axis_off()
            continue
        sample, channel = divmod(number, plots)
        for drawn in (range(channels) if plots == 1 else [channel]):
            axes.plot(values[sample, drawn], color=_colour(drawn, channels), lw=0.9,
                      label=f"channel {drawn}" if number < plots and channels > 1 else None)
        axes.set_ylim(*ends[channel])
        axes.set_xlim(0, max(values.shape[-1] - 1, 1))
        style_axes(axes, shorten(names[sample], 24) if names is not None and channel == 0 else "", size=8)
    for axes in grid[-1]:
        axes.set_xlabel("place", fontsize=8)
    if 1 < channels <= 8:
        figure.legend(loc="upper right", ncols=channels, fontsize=8, frameon=False)
    return _finished(figure, heading)


def draw_fields(values: np.ndarray, names: Sequence[str] | None = None, noun: str = "samples") -> Image.Image:
    """Draw fields (N, C, H, W), or the middle slices of volumes (N, C, D, H, W), with samples in rows and channels in
    columns; NaN is blank. The heading calls the samples `noun`.
    """
    values, heading = _first(values, SHEET_LIMITS["fields"], noun)
    flat, heading = middle_slice(values), f"{heading}, slice {values.shape[2] // 2} of {values.shape[2]}" \
        if values.ndim == 5 else heading
    count, channels, height, width = flat.shape
    drawn = min(channels, 8)
    heading += f", the first {drawn} of {channels} channels" if drawn < channels else ""
    aspect = min(max(height / width, 0.25), 4)
    columns = max(1, round(count**0.5)) if drawn == 1 else 1  # with one channel, samples fill the row
    rows = -(-count // columns)
    # Inches: a cell, the gap between two, and the margins for heading, names and scales.
    side, gap, left, top, bottom = 1.2, 0.08, 0.9 if names is not None else 0.25, 0.6, 0.6
    size = max(left + drawn * columns * (side + gap) + 0.2, 3.6), top + rows * (side * aspect + gap) + bottom
    figure = new_figure(*size, automatic=False)

    def cell(column: float, row: float, wide: float, high: float) -> Any:
        """Axes of a size in inches at a cell; row 0 is at the top."""
        y = size[1] - top - (row + 1) * (side * aspect + gap) + gap
        return figure.add_axes(((left + column * (side + gap)) / size[0], (y + side * aspect - high) / size[1],
                                wide / size[0], high / size[1]))

    for channel in range(drawn):
        low, high = _ends(flat[:, channel], margin=0)
        for number in range(count):
            row, column = divmod(number, columns)
            axes = cell(channel * columns + column, row, side, side * aspect)
            axes.imshow(flat[number, channel], vmin=low, vmax=high, cmap="viridis", interpolation="nearest",
                        aspect="auto")
            axes.set(xticks=[], yticks=[])
            if number == 0 and channels > 1:
                axes.set_title(f"channel {channel}", fontsize=8, pad=3)
            if names is not None and channel == 0:
                axes.set_ylabel(shorten(names[number], 14), fontsize=8)
        scale = cell(channel * columns, rows, side, 0.1)
        scale.imshow(np.linspace(0, 1, 64)[None], cmap="viridis", aspect="auto", extent=(low, high, 0, 1))
        ticks = {f"{tick:.3g}": (tick, side_of) for tick, side_of in
                 ((low, "left"), ((low + high) / 2, "center"), (high, "right"))}
        if sum(map(len, ticks)) > 18:  # too wide for a cell: only the ends
            ticks = {word: tick for word, tick in ticks.items() if tick[1] != "center"}
        scale.set(yticks=[], xticks=[tick for tick, _ in ticks.values()])
        scale.set_xticklabels(list(ticks), fontsize=6.5)
        for label, (_, side_of) in zip(scale.get_xticklabels(), ticks.values(), strict=True):
            label.set_horizontalalignment(side_of)
        scale.tick_params(length=2, color="#999999")
    return _finished(figure, heading, tight=False)


def middle_slice(values: np.ndarray) -> np.ndarray:
    """The middle slice along D of volumes (N, C, D, H, W); other arrays unchanged."""
    return values[:, :, values.shape[2] // 2] if values.ndim == 5 else values


def draw_points(points: np.ndarray, names: Sequence[str] | None, axis_names: Sequence[str],
                side: int = 512) -> Image.Image:
    """Draw points of the plane (N, 2) in their own units, in a square of `side` pixels, with a colour for each name."""
    figure = new_figure(side / 100, side / 100)
    axes = figure.subplots()
    names = [""] * len(points) if names is None else list(names)
    kinds = list(dict.fromkeys(names))
    kind_of = np.array([kinds.index(name) for name in names])
    for number, kind in enumerate(kinds):
        axes.plot(*points[kind_of == number].T, ".", ms=4, alpha=0.7, mew=0, color=_colour(number, len(kinds)),
                  label=shorten(kind, 16))
    axes.set_aspect("equal", adjustable="datalim")
    style_axes(axes, "", *(shorten(name, 40) for name in axis_names), size=8)
    if 1 < len(kinds) <= len(COLOURS):
        axes.legend(fontsize=8, frameon=False, markerscale=2, loc="best")
    return render(figure)


def draw_histograms(values: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Draw a histogram of each value of vectors (N, D), as many as there is room for, under its name."""
    drawn = min(values.shape[1], SHEET_LIMITS["values"])
    columns = min(drawn, 4)
    rows = -(-drawn // columns)
    figure = new_figure(max(2.3 * columns, 4), 1.7 * rows + 0.8, automatic=False)
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if number >= drawn:
            axes.set_axis_off()
            continue
        axes.hist(values[:, number], bins=min(40, max(5, len(values) // 8)), color=COLOURS[0])
        axes.set_yticks([])
        axes.locator_params("x", nbins=4)
        style_axes(axes, shorten(names[number], 24), size=8)
    heading = f"{len(values)} samples"
    return _finished(figure, heading + (f", the first {drawn} of {values.shape[1]} values" if drawn < values.shape[1]
                                        else ""))


def _first(values: np.ndarray, limit: int, noun: str) -> tuple[np.ndarray, str]:
    """The first `limit` values, and a heading that says how many there are."""
    count = len(values)
    return values[:limit], f"{count} {noun}" if count <= limit else f"the first {limit} of {count} {noun}"


def _ends(values: np.ndarray, margin: float = 0.05) -> tuple[float, float]:
    """The range of all known values with a margin; never empty."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = margin * (high - low) or (0.0 if high > low else max(abs(low), 1.0) * 1e-3)
    return low - room, high + room


def _colour(number: int, count: int) -> Any:
    if count <= len(COLOURS):
        return COLOURS[number]
    import matplotlib

    return matplotlib.colormaps["viridis"](number / (count - 1))


def shorten(name: str, limit: int) -> str:
    """A name for Matplotlib, cut to at most `limit` letters."""
    # A dollar sign in a name must not begin a formula.
    return (name if len(name) <= limit else name[:limit - 1] + "…").replace("$", r"\$")


def style_axes(axes: Any, title: str = "", x: str = "", y: str = "", size: float = 11) -> None:
    """Give axes small tick labels, no box, and a title of a size."""
    axes.tick_params(which="both", labelsize=7)
    axes.tick_params(length=2, color="#999999")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    if title:
        axes.set_title(title, fontsize=size, pad=2 if size < 9 else None)
    axes.set_xlabel(x or axes.get_xlabel(), fontsize=min(size, 9))
    axes.set_ylabel(y or axes.get_ylabel(), fontsize=min(size, 9))


def _finished(figure: Figure, heading: str, tight: bool = True) -> Image.Image:
    height = figure.get_figheight()
    if tight:
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.32 / height), pad=0.6, h_pad=0.4, w_pad=0.4)
    figure.text(0.012, 1 - 0.1 / height, heading, fontsize=9, va="top")
    return render(figure)
