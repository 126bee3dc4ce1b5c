"""Arrays as something to look at: traces as lines, volumes as slices, points of the plane, histograms of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ornstein.data import DataSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "DRAWN", "canvas", "entries", "field", "fields", "histograms", "lines", "plain", "rendered",
           "scatter", "sheet", "short"]

COLOURS = ("#26466e", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2", "#646464")
DRAWN = {"traces": 36, "fields": 12, "values": 16}  # what one sheet has room for; its heading says if there are more


def sheet(spec: DataSpec, values: np.ndarray, names: Sequence[str] | None = None) -> Image.Image:
    """Arrays (N, *spec.shape) in the data's own units as one image, each kind in its own way, under N names or none."""
    if len(spec.shape) == 2:
        return lines(spec, values, names)
    if len(spec.shape) > 2:
        return fields(values, names)
    return scatter(values, names, entries(spec)) if spec.shape == (2,) else histograms(values, entries(spec))


def entries(spec: DataSpec) -> list[str]:
    """What each entry of a vector is called, or each channel of all else."""
    what = "value" if len(spec.shape) == 1 else "channel"
    return list(spec.columns) or [f"{what} {number}" for number in range(spec.shape[0])]


def canvas(width: float, height: float, apart: bool = True) -> Figure:
    """A white figure of a size in inches, which keeps its parts apart or leaves their places to the caller."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if apart else None, dpi=100)


def rendered(figure: Figure) -> Image.Image:
    """A figure as pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def lines(spec: DataSpec, values: np.ndarray, names: Sequence[str] | None = None) -> Image.Image:
    """Traces, (N, C, L), each a small plot with its channels in colours, or apart where they have their own ranges."""
    values, heading = _first(values, DRAWN["traces"], "traces")
    channels = spec.shape[0]
    # Channels with ranges of their own have no axis in common.
    apart = channels if isinstance(spec.low, tuple) and channels <= 6 else 1
    across = apart * max(1, round(min(6, len(values) ** 0.5) / apart))
    rows = -(-len(values) * apart // across)
    figure = canvas(max(2.2 * across, 4), max(1.35 * rows, 1.6) + 0.9, apart=False)
    grid = figure.subplots(rows, across, sharex=True, sharey=apart == 1, squeeze=False)
    ends = [_ends(values[:, channel]) for channel in range(channels)] if apart > 1 else [_ends(values)]
    for number, axes in enumerate(grid.flat):
        if number >= len(values) * apart:
            axes.set_axis_off()
            continue
        sample, channel = divmod(number, apart)
        for shown in (range(channels) if apart == 1 else [channel]):
            axes.plot(values[sample, shown], color=_colour(shown, channels), lw=0.9,
                      label=f"channel {shown}" if number < apart and channels > 1 else None)
        axes.set_ylim(*ends[channel])
        axes.set_xlim(0, max(values.shape[-1] - 1, 1))
        plain(axes, short(names[sample], 24) if names is not None and channel == 0 else "", size=8)
    for axes in grid[-1]:
        axes.set_xlabel("place", fontsize=8)
    if 1 < channels <= 8:
        figure.legend(loc="upper right", ncols=channels, fontsize=8, frameon=False)
    return _finished(figure, heading)


def fields(values: np.ndarray, names: Sequence[str] | None = None, what: str = "samples") -> Image.Image:
    """Fields (N, C, H, W), or the middle slices of volumes (N, C, D, H, W): samples, or `what` they are, in rows, and
    channels in columns; NaN is blank.
    """
    values, heading = _first(values, DRAWN["fields"], what)
    flat, heading = field(values), f"{heading}, slice {values.shape[2] // 2} of {values.shape[2]}" \
        if values.ndim == 5 else heading
    count, channels, height, width = flat.shape
    shown = min(channels, 8)
    heading += f", the first {shown} of {channels} channels" if shown < channels else ""
    tall = min(max(height / width, 0.25), 4)
    across = max(1, round(count**0.5)) if shown == 1 else 1  # of one channel, samples fill the row
    rows = -(-count // across)
    # Inches: a cell, the room between two, and what heading, names and scales need around them.
    side, gap, left, over, under = 1.2, 0.08, 0.9 if names is not None else 0.25, 0.6, 0.6
    size = max(left + shown * across * (side + gap) + 0.2, 3.6), over + rows * (side * tall + gap) + under
    figure = canvas(*size, apart=False)

    def cell(column: float, row: float, wide: float, high: float) -> Any:
        """Axes of a size in inches at a cell; rows count from the top."""
        bottom = size[1] - over - (row + 1) * (side * tall + gap) + gap
        return figure.add_axes(((left + column * (side + gap)) / size[0], (bottom + side * tall - high) / size[1],
                                wide / size[0], high / size[1]))

    for channel in range(shown):
        low, high = _ends(flat[:, channel], margin=0)
        for number in range(count):
            row, column = divmod(number, across)
            axes = cell(channel * across + column, row, side, side * tall)
            axes.imshow(flat[number, channel], vmin=low, vmax=high, cmap="viridis", interpolation="nearest",
                        aspect="auto")
            axes.set(xticks=[], yticks=[])
            if number == 0 and channels > 1:
                axes.set_title(f"channel {channel}", fontsize=8, pad=3)
            if names is not None and channel == 0:
                axes.set_ylabel(short(names[number], 14), fontsize=8)
        scale = cell(channel * across, rows, side, 0.1)
        scale.imshow(np.linspace(0, 1, 64)[None], cmap="viridis", aspect="auto", extent=(low, high, 0, 1))
        ticks = {f"{tick:.3g}": (tick, side_of) for tick, side_of in
                 ((low, "left"), ((low + high) / 2, "center"), (high, "right"))}
        if sum(map(len, ticks)) > 18:  # more letters than a cell is wide: the ends alone
            ticks = {word: tick for word, tick in ticks.items() if tick[1] != "center"}
        scale.set(yticks=[], xticks=[tick for tick, _ in ticks.values()])
        scale.set_xticklabels(list(ticks), fontsize=6.5)
        for label, (_, side_of) in zip(scale.get_xticklabels(), ticks.values(), strict=True):
            label.set_horizontalalignment(side_of)
        scale.tick_params(length=2, color="#999999")
    return _finished(figure, heading, tight=False)


def field(values: np.ndarray) -> np.ndarray:
    """Fields as they are, and of volumes (..., D, H, W) of rank 5 the middle slice along D."""
    return values[:, :, values.shape[2] // 2] if values.ndim == 5 else values


def scatter(points: np.ndarray, names: Sequence[str] | None, entries: Sequence[str], side: int = 512) -> Image.Image:
    """Points of the plane, (N, 2), on axes in their own units, in a square of `side` pixels; one colour a class."""
    figure = canvas(side / 100, side / 100)
    axes = figure.subplots()
    names = [""] * len(points) if names is None else list(names)
    kinds = list(dict.fromkeys(names))
    of = np.array([kinds.index(name) for name in names])
    for number, kind in enumerate(kinds):
        axes.plot(*points[of == number].T, ".", ms=4, alpha=0.7, mew=0, color=_colour(number, len(kinds)),
                  label=short(kind, 16))
    axes.set_aspect("equal", adjustable="datalim")
    plain(axes, "", *(short(name, 40) for name in entries), size=8)
    if 1 < len(kinds) <= len(COLOURS):
        axes.legend(fontsize=8, frameon=False, markerscale=2, loc="best")
    return rendered(figure)


def histograms(values: np.ndarray, names: Sequence[str]) -> Image.Image:
    """The distribution of each value of vectors (N, D), as many as there is room for, under the name of each."""
    shown = min(values.shape[1], DRAWN["values"])
    across = min(shown, 4)
    rows = -(-shown // across)
    figure = canvas(max(2.3 * across, 4), 1.7 * rows + 0.8, apart=False)
    for number, axes in enumerate(figure.subplots(rows, across, squeeze=False).flat):
        if number >= shown:
            axes.set_axis_off()
            continue
        axes.hist(values[:, number], bins=min(40, max(5, len(values) // 8)), color=COLOURS[0])
        axes.set_yticks([])
        axes.locator_params("x", nbins=4)
        plain(axes, short(names[number], 24), size=8)
    heading = f"{len(values)} samples"
    return _finished(figure, heading + (f", the first {shown} of {values.shape[1]} values" if shown < values.shape[1]
                                        else ""))


def _first(values: np.ndarray, most: int, what: str) -> tuple[np.ndarray, str]:
    count = len(values)
    return values[:most], f"{count} {what}" if count <= most else f"the first {most} of {count} {what}"


def _ends(values: np.ndarray, margin: float = 0.05) -> tuple[float, float]:
    """The range of all values that are known, and a little more; never empty."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = margin * (high - low) or (0.0 if high > low else max(abs(low), 1.0) * 1e-3)
    return low - room, high + room


def _colour(number: int, count: int) -> Any:
    if count <= len(COLOURS):
        return COLOURS[number]
    import matplotlib

    return matplotlib.colormaps["viridis"](number / (count - 1))


def short(name: str, most: int) -> str:
    """A name as Matplotlib draws it, its end left out where it has more than `most` letters."""
    # A name is data: a dollar sign in it must not begin a formula.
    return (name if len(name) <= most else name[:most - 1] + "…").replace("$", r"\$")


def plain(axes: Any, title: str = "", x: str = "", y: str = "", size: float = 11) -> None:
    """Axes with small numbers and no box, under a title of a size."""
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
    return rendered(figure)
